"""What a symmetry promises is checked, and every way to break it has its own words."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import NETWORKS
from safetensors.numpy import save_file
from torch import fx

import fxrebasin as fr
from fxrebasin import Block, Segment, Symmetry
from fxrebasin.errors import FileFormatError, FxrebasinError, InvalidSymmetryError
from fxrebasin.passes import Propagate, Refine, Trace
from fxrebasin.passes.state import state_of
from fxrebasin.symmetry.contract import check
from fxrebasin.symmetry.parts import AxisGroup, ParameterSymmetry

torch.set_num_threads(1)

# A few in the fast suite, and all in the whole one.
NAMES = [
    pytest.param(name, marks=[pytest.mark.slow] if k % 6 else []) for k, name in enumerate(NETWORKS)
]

HEADS = Block("heads", 3, None, 1, (("w", 0), ("b", 0)))
INSIDE = Block("inside", 2, "heads", 3, (("w", 0),))
BOTH = Segment(("heads", "inside"), np.arange(6).reshape(3, 2, 1), (-1, 0))
SOME = Segment(("heads",), np.arange(3).reshape(3, 1), (-1,))
REST = Segment((), np.arange(3, 8), ())


def by_hand(
    *,
    blocks: tuple[Block, ...] = (HEADS, INSIDE),
    w: tuple[Segment, ...] = (BOTH,),
    b: tuple[Segment, ...] = (SOME, REST),
    more: tuple[ParameterSymmetry, ...] = (),
) -> Symmetry:
    """Three heads of two features on one axis, and half of another."""
    parameters = (
        ParameterSymmetry(("w", "tied"), (6, 5), False, (AxisGroup((0,), w),)),
        ParameterSymmetry(("b",), (8,), False, (AxisGroup((0,), b),)),
        *more,
    )
    return Symmetry({block.name: block for block in blocks}, parameters)


def over(axes: tuple[int, ...], *more: tuple[int, ...]) -> Symmetry:
    """A third parameter, of 3 x 3 entries, with these groups of axes."""
    groups = tuple(AxisGroup(a, (SOME,)) for a in (axes, *more))
    return by_hand(more=(ParameterSymmetry(("v",), (3, 3), False, groups),))


def on_w(positions: Any, parents: tuple[int, ...] = (-1, 0)) -> Symmetry:
    return by_hand(w=(Segment(("heads", "inside"), np.array(positions), parents),))


BROKEN: dict[str, tuple[Symmetry, str]] = {
    "a block under another name": (
        replace(by_hand(), blocks={"heads": HEADS, "other": INSIDE}),
        "block 'other': expected that name, found 'inside'",
    ),
    "a size of nothing": (
        by_hand(blocks=(replace(HEADS, size=0), INSIDE)),
        "block 'heads': expected a size of at least 1, found 0",
    ),
    "a count that is no number": (
        by_hand(blocks=(replace(HEADS, count="1"), INSIDE)),  # type: ignore[arg-type]
        "block 'heads': expected a count of at least 1, found '1'",
    ),
    "a child before its parent": (
        by_hand(blocks=(INSIDE, HEADS)),
        "block 'inside' is nested in 'heads': expected that among the blocks before it, which are "
        "none",
    ),
    "a parent that is missing": (
        by_hand(blocks=(HEADS, replace(INSIDE, parent="layers"))),
        "block 'inside' is nested in 'layers': expected that among the blocks before it, which "
        "are 'heads'",
    ),
    "another count than the parent has units": (
        by_hand(blocks=(HEADS, replace(INSIDE, count=2))),
        "block 'inside': expected the count 3, the units of 'heads', found 2",
    ),
    "a count without a parent": (
        by_hand(blocks=(replace(HEADS, count=2), INSIDE)),
        "block 'heads': expected the count 1, as it has no parent, found 2",
    ),
    "a tensor without a name": (
        by_hand(more=(ParameterSymmetry((), (4,), False),)),
        "a tensor of shape (4,): expected a name, found none",
    ),
    "two tensors of one name": (
        by_hand(more=(ParameterSymmetry(("tied",), (4,), False),)),
        "'tied': expected one tensor of that name, found another",
    ),
    "an axis that is not there": (over((2,)), "'v': expected axes from 0 to 1, found 2"),
    "an axis counted from the end": (over((-1,)), "'v': expected axes from 0 to 1, found -1"),
    "an axis in two groups": (
        over((0,), (0,)),
        "'v': expected axis 0 in one group of axes, found two",
    ),
    "a group of no axes": (
        over(()),
        "'v': expected axes in every group of axes, found none",
    ),
    "a block that is missing": (
        by_hand(blocks=(HEADS,)),
        "'w', axis 0: moved by block 'inside': expected that among the blocks, found it missing",
    ),
    "positions between entries": (
        on_w(np.arange(6.0).reshape(3, 2, 1)),
        "'w', axis 0: expected positions of int64, found float64",
    ),
    "the sizes of blocks exchanged": (
        on_w(np.arange(6).reshape(2, 3, 1)),
        "'w', axis 0: a segment of the blocks 'heads', 'inside': expected positions of shape "
        "(3, 2, copies), their sizes, found (2, 3, 1)",
    ),
    "no dimension for copies": (
        on_w(np.arange(6).reshape(3, 2)),
        "expected positions of shape (3, 2, copies), their sizes, found (3, 2)",
    ),
    "a dimension too many for what is pinned": (
        by_hand(b=(SOME, replace(REST, positions=REST.positions[None]))),
        "'b', axis 0: a segment of the blocks none: expected positions of shape (copies), their "
        "sizes, found (1, 5)",
    ),
    "a parent too few": (
        on_w(BOTH.positions, (-1,)),
        "'w', axis 0: a segment of the blocks 'heads', 'inside': expected the place of a parent "
        "for each, found (-1,)",
    ),
    "a child without its parent on the axis": (
        on_w(BOTH.positions, (-1, -1)),
        "'w', axis 0: block 'inside': expected the place of its parent 'heads' among the blocks "
        "before it, ('heads'), found -1",
    ),
    "a child before its parent in a segment": (
        by_hand(w=(Segment(("inside", "heads"), np.arange(6).reshape(2, 3, 1), (1, -1)),)),
        "'w', axis 0: block 'inside': expected the place of its parent 'heads' among the blocks "
        "before it, (), found 1",
    ),
    "a parent for a block that has none": (
        by_hand(w=(Segment(("heads", "inside"), BOTH.positions, (0, 0)),)),
        "'w', axis 0: block 'heads': expected -1 for no parent in its segment, found 0",
    ),
    "a position beyond the axis": (
        on_w(np.arange(1, 7).reshape(3, 2, 1)),
        "'w', axis 0: expected positions from 0 to 5, found 6",
    ),
    "a position before the axis": (
        on_w(np.arange(-1, 5).reshape(3, 2, 1)),
        "'w', axis 0: expected positions from 0 to 5, found -1",
    ),
    "a position twice": (
        by_hand(b=(SOME, Segment((), np.array([2, 3, 4, 5, 6, 7]), ()))),
        "'b', axis 0: expected position 2 in one segment, found it in 2",
    ),
    "a position left out": (
        by_hand(b=(SOME, Segment((), np.array([3, 4, 6, 7]), ()))),
        "'b', axis 0: expected position 5 in one segment, found it in none",
    ),
    "too few positions on axes that move jointly": (
        over((0, 1)),
        "'v', axes 0, 1: expected position 3 in one segment, found it in none",
    ),
    "a block that moves nothing": (
        by_hand(blocks=(HEADS, INSIDE, Block("alone", 4))),
        "block 'alone': expected it on an axis of a parameter or an output, found it on none",
    ),
    "an axis of a block that is not there": (
        by_hand(blocks=(replace(HEADS, axes=(("w", 0), ("c", 0))), INSIDE)),
        "block 'heads': expected it on axis 0 of 'c', which it names, found no such axis that it "
        "moves",
    ),
    "an axis that another block moves": (
        by_hand(blocks=(HEADS, replace(INSIDE, axes=(("b", 0),)))),
        "block 'inside': expected it on axis 0 of 'b', which it names, found no such axis that it "
        "moves",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_symmetry_that_contradicts_itself(name: str) -> None:
    symmetry, text = BROKEN[name]
    with pytest.raises(InvalidSymmetryError) as caught:
        check(symmetry)
    assert text in str(caught.value)
    assert str(caught.value).endswith(
        "; analyse the model again, and if this is what fxrebasin.analyze returned, please report "
        "the model"
    )
    assert isinstance(caught.value, FxrebasinError)
    assert isinstance(caught.value, ValueError)


def test_outputs_are_looked_at_like_parameters() -> None:
    twice = Segment((), np.array([0, 0]), ())
    output = ParameterSymmetry(("output 0",), (2,), True, (AxisGroup((0,), (twice,)),))
    with pytest.raises(InvalidSymmetryError, match=r"^'output 0', axis 0: expected position 0 in"):
        check(replace(by_hand(), outputs=(output,)))


def test_a_group_by_hand_is_as_promised() -> None:
    check(by_hand())
    check(Symmetry({}, ()))


@cache
def group(name: str) -> Symmetry:
    torch.manual_seed(0)
    network = NETWORKS[name]
    return fr.analyze(network.factory(), args=network.inputs(2))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_found_is_as_promised(name: str) -> None:
    check(group(name))


# where it is run


def test_refining_ends_with_the_check() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))
    module = fx.symbolic_trace(net)
    for step in (Trace(), Propagate((torch.zeros(1, 2),)), Refine()):
        result = step(module)
        assert result is not None
        module = result.graph_module
    state = state_of(module)
    assert state.symmetry is not None
    Refine().ensures(module)
    state.symmetry = replace(state.symmetry, blocks={})
    with pytest.raises(InvalidSymmetryError, match=r"moved by block '0.weight\[0\]': expected"):
        Refine().ensures(module)


DAMAGE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a position twice": (
        lambda c: c["parameters"][1]["groups"][0]["segments"][1].update(positions=[2, 3, 4, 5, 6]),
        "'b', axis 0: expected position 2 in one segment, found it in 2",
    ),
    "a block less": (
        lambda c: c["blocks"].pop(),
        "'w', axis 0: moved by block 'inside': expected that among the blocks",
    ),
    "blocks in another order": (
        lambda c: c["blocks"].reverse(),
        "block 'inside' is nested in 'heads': expected that among the blocks before it",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_reading_ends_with_the_check(name: str, tmp_path: Path) -> None:
    damage, text = DAMAGE[name]
    content = json.loads(by_hand().to_json())
    content["format"] = "fxrebasin.symmetry/2"  # before there were digests
    del content["digest"]
    damage(content)
    with pytest.raises(FileFormatError) as caught:
        Symmetry.from_json(json.dumps(content))
    assert str(caught.value).startswith(f"this is not a symmetry written as JSON: {text}")
    path = tmp_path / "permutation.safetensors"
    indices = {n: i.copy() for n, i in fr.Permutation.identity(by_hand()).indices.items()}
    save_file(indices, path, {"symmetry": json.dumps(content)})
    with pytest.raises(FileFormatError) as caught:
        fr.Permutation.load(path)
    assert f"'{path}' is not a permutation saved by fxrebasin" in str(caught.value)
    assert text in str(caught.value)
