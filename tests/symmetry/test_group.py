"""The symmetry group as a value: numbers, samples, tables, JSON."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from networks import NETWORKS
from torch import Tensor, nn

import fxrebasin as fr
from fxrebasin import Block, Segment, Symmetry
from fxrebasin.errors import FileFormatError
from fxrebasin.layouts.causes import PinKind
from fxrebasin.symmetry.evidence import Evidence
from fxrebasin.symmetry.parts import AxisGroup, ParameterSymmetry, Pinned

torch.set_num_threads(1)

NAMES = ["mlp", "attention_by_einsum", "lstm", "group_norm", "rotary_attention", "torch_attention"]


@cache
def group(name: str) -> Symmetry:
    torch.manual_seed(0)
    network = NETWORKS[name]
    return fr.analyze(network.factory(), args=network.inputs(2))


def by_hand() -> Symmetry:
    """Three heads of two features, and a bias that is half of a sum of two axes."""
    heads = Block("w[0]", 3, None, 1, (("w", 0), ("b", 0)))
    inside = Block("w[0]#2", 2, "w[0]", 3, (("w", 0),))
    positions = np.arange(6).reshape(3, 2, 1)
    segment = Segment(("w[0]", "w[0]#2"), positions, (-1, 0))
    some = Segment(("w[0]",), np.arange(3).reshape(3, 1), (-1,))
    rest = Segment((), np.arange(3, 8), ())
    return Symmetry(
        {b.name: b for b in (heads, inside)},
        (
            ParameterSymmetry(("w", "tied"), (6, 5), False, (AxisGroup((0,), (segment,)),)),
            ParameterSymmetry(("b",), (8,), False, (AxisGroup((0,), (some, rest)),)),
            ParameterSymmetry(("still",), (7,), False),
            ParameterSymmetry(("mean",), (100,), True),
        ),
        (
            Pinned("w", 1, 5, PinKind.OUTPUT, "is an output", node="out"),
            Pinned("still", 0, 7, PinKind.RULE, "why <not>"),
        ),
        {"aten.odd.default": 2},
    )


def test_the_numbers() -> None:
    symmetry = by_hand()
    assert symmetry.log_order == pytest.approx(math.log(6) + 3 * math.log(2))
    assert symmetry.movable_units == 3 + 6
    assert symmetry.block_count == 1 + 3
    assert len(symmetry) == 2
    assert [b.name for b in symmetry] == ["w[0]", "w[0]#2"]
    assert symmetry.children("w[0]") == ["w[0]#2"]
    assert symmetry.children("w[0]#2") == []
    assert symmetry.blocks["w[0]#2"].units == 6


def test_coverage_counts_entries_of_parameters_that_move() -> None:
    """All 30 of w, 3 of the 8 of b, none of 7; the buffer does not count."""
    assert by_hand().coverage == pytest.approx((30 + 3) / (30 + 8 + 7))


def test_coverage_of_a_network() -> None:
    """Of ``Linear(3, 6)``, ``Linear(6, 2)`` only the last bias stays."""
    net = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))
    found = fr.analyze(net, args=(torch.zeros(1, 3),))
    assert found.coverage == pytest.approx((18 + 6 + 12) / (18 + 6 + 12 + 2))


def test_the_share_of_units_that_is_not_understood() -> None:
    """Of 6 + 4 hidden units one layer is lost to an op without a rule, and nothing but that."""

    class Histogram(nn.Module):
        def forward(self, h: torch.Tensor) -> torch.Tensor:
            return torch.bernoulli(h.sigmoid())

    understood = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 4), nn.Linear(4, 2))
    lost = nn.Sequential(*understood[:2], Histogram(), *understood[2:])
    whole, found = (fr.analyze(net, args=(torch.zeros(2, 3),)) for net in (understood, lost))
    assert whole.not_understood == 0.0
    assert "not understood" not in repr(whole)
    assert (found.units_not_understood, found.movable_units) == (6, 4)
    assert found.not_understood == pytest.approx(6 / 10)
    assert repr(found).endswith("not understood 60.0%)")
    assert "not understood 60.0%" in str(found)
    assert Symmetry.from_json(found.to_json()).not_understood == found.not_understood


def test_an_entry_moves_if_any_of_its_axes_does() -> None:
    half = AxisGroup((0,), (Segment(("a",), np.arange(2).reshape(2, 1), (-1,)),))
    third = AxisGroup((1,), (Segment(("b",), np.arange(3).reshape(3, 1), (-1,)),))
    p = ParameterSymmetry(("p",), (4, 9), False, (half, third))
    assert p.moving_share == pytest.approx(1 - 1 / 2 * 2 / 3)


def test_nothing_moves_nothing() -> None:
    symmetry = fr.analyze(nn.Linear(3, 2), args=(torch.zeros(1, 3),))
    assert len(symmetry) == symmetry.movable_units == 0
    assert symmetry.log_order == symmetry.coverage == 0.0
    assert fr.Permutation.random(symmetry).is_identity
    assert Symmetry({}, ()).coverage == 0.0


def test_a_linear_layer_alone_says_why_nothing_moves() -> None:
    symmetry = fr.analyze(nn.Linear(3, 2), args=(torch.zeros(1, 3),))
    assert {(p.parameter, p.dim, p.units) for p in symmetry.pinned} == {
        ("weight", 0, 2),
        ("weight", 1, 3),
        ("bias", 0, 2),
    }
    reasons = {(p.parameter, p.dim): p.reason for p in symmetry.pinned}
    assert "output" in reasons["weight", 0]


# samples


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_seeded(name: str) -> None:
    symmetry = group(name)
    one, again, other = (
        fr.Permutation.random(symmetry, torch.Generator().manual_seed(s)) for s in (1, 1, 2)
    )
    assert one == again
    assert one != other


def test_samples_take_torchs_own_generator_if_none_is_given() -> None:
    symmetry = group("mlp")
    torch.manual_seed(5)
    one = fr.Permutation.random(symmetry)
    torch.manual_seed(5)
    assert fr.Permutation.random(symmetry) == one


def test_samples_are_uniform() -> None:
    """Chi-square over the 6 x 2^3 elements; the bound is that of one in a million."""
    symmetry = by_hand()
    generator = torch.Generator().manual_seed(0)
    draws = 4800
    counts = Counter(
        tuple(fr.Permutation.random(symmetry, generator).flat("w[0]#2").tolist())
        for _ in range(draws)
    )
    expected = draws / 48
    chi2 = sum((n - expected) ** 2 for n in counts.values()) / expected
    assert len(counts) == 48
    assert chi2 < 110


# tables


def test_the_table_of_a_nested_group() -> None:
    lines = str(by_hand()).splitlines()
    assert lines[0] == repr(by_hand())
    assert lines[1].split() == ["block", "size", "log_order", "axes", "kind", "nested"]
    assert lines[2].split() == ["w[0]", "3", "1.8", "2"]
    assert lines[3].split() == ["w[0]#2", "2", "x", "3", "2.1", "1", "in", "w[0]"]


def test_the_table_says_what_is_pinned_and_why() -> None:
    text = str(by_hand())
    pins = text[text.index("pinned:") :].splitlines()
    assert pins[1:3] == ["  7 units: why <not>", "  5 units: is an output (at out)"]
    expected = "not understood: aten.odd.default (2 times), which pins 0 units of parameters"
    assert pins[3] == expected


def test_pins_with_one_reason_are_counted_together() -> None:
    pins = (
        Pinned("a", 0, 1000, PinKind.RULE, "same", "aten.one"),
        Pinned("b", 0, 234, PinKind.RULE, "same", "aten.other"),
    )
    symmetry = Symmetry({}, (), pins)
    assert "1,234 units: same" in str(symmetry)


def test_long_tables_are_cut() -> None:
    blocks = {f"b{k}": Block(f"b{k}", 2) for k in range(100)}
    pins = tuple(Pinned(f"p{k}", 0, 1, PinKind.RULE, f"reason {k}") for k in range(20))
    text = str(Symmetry(blocks, (), pins))
    assert "b0 " in text
    assert "b99 " in text
    assert "b60 " not in text
    assert "..." in text
    assert "and 12 more causes in symmetry.pinned" in text


def test_repr_is_one_line() -> None:
    assert repr(by_hand()) == ("Symmetry(4 blocks, 9 movable units, log_order 3.9, coverage 73.3%)")


def test_the_notebooks_table() -> None:
    html = by_hand()._repr_html_()
    assert html.count("<tr>") == 3
    assert "<td>w[0]#2</td>" in html
    assert "in w[0]" in html
    assert "Symmetry(4 blocks" in html


def test_the_summary() -> None:
    assert by_hand().summary() == {
        "blocks": 4,
        "movable units": 9,
        "log_order": by_hand().log_order,
        "coverage": by_hand().coverage,
        "not understood": 0.0,
    }


def test_one_difference_anywhere_makes_two_symmetries_differ() -> None:
    whole = by_hand()
    weight, *others = whole.parameters
    (axes,) = weight.groups
    (segment,) = axes.segments
    turned = replace(segment, positions=segment.positions[::-1])
    moved = replace(weight, groups=(replace(axes, segments=(turned,)),))
    for other in (
        replace(whole, blocks={**whole.blocks, "w[0]": replace(whole.blocks["w[0]"], axes=())}),
        replace(whole, parameters=(moved, *others)),
        replace(whole, outputs=(weight,)),
        replace(whole, pinned=whole.pinned[:1]),
        replace(whole, unknown_ops={}),
        replace(whole, front_end="export"),
        replace(whole, notes=("a note",)),
    ):
        assert other != whole
    graph = nx.MultiGraph()
    assert replace(whole, evidence=Evidence(graph, {})) == whole


def test_children_are_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for those of every block takes time in proportion to the blocks, not their square."""
    blocks = {"parent": Block("parent", 2)}
    blocks |= {f"b{k}": Block(f"b{k}", 2, "parent", 2) for k in range(50)}
    symmetry = Symmetry(blocks, ())
    looked: list[int] = []

    def blocks_of(symmetry: Symmetry) -> Iterator[Block]:
        looked.append(1)
        return iter(symmetry.blocks.values())

    monkeypatch.setattr(Symmetry, "__iter__", blocks_of)
    assert sum(len(symmetry.children(name)) for name in blocks) == 50
    assert len(looked) == 1


# drawings


def test_a_drawing_has_the_size_of_the_group_above_it_or_what_is_asked_for(tmp_path: Path) -> None:
    symmetry = group("mlp")
    size = f"{len(symmetry)} blocks, {symmetry.movable_units} movable units, log order "
    for title, expected in ((None, size), ("My network", "My network")):
        symmetry.plot(tmp_path / "blocks.svg", title=title)
        assert f"<!-- {expected}" in (tmp_path / "blocks.svg").read_text()


# JSON


@pytest.mark.parametrize("name", NAMES)
def test_json_round_trip(name: str) -> None:
    symmetry = group(name)
    back = Symmetry.from_json(symmetry.to_json())
    assert back == symmetry
    assert str(back) == str(symmetry)
    assert list(back) == list(symmetry)
    permutation = fr.Permutation.random(back, torch.Generator().manual_seed(3))
    model = NETWORKS[name].factory()
    mine = fr.Permutation.random(symmetry, torch.Generator().manual_seed(3)).apply(
        model.state_dict()
    )
    theirs = permutation.apply(model.state_dict())
    assert all(torch.equal(mine[k], theirs[k]) for k in mine)


def test_json_is_json_and_can_be_indented() -> None:
    symmetry = by_hand()
    assert json.loads(symmetry.to_json())["log_order"] == symmetry.log_order
    assert Symmetry.from_json(symmetry.to_json(indent=2)) == symmetry
    assert "\n" in symmetry.to_json(indent=2)
    assert Symmetry.from_json(symmetry.to_json()).pinned == symmetry.pinned
    assert Symmetry.from_json(symmetry.to_json()).unknown_ops == {"aten.odd.default": 2}


def test_symmetries_are_compared_by_value() -> None:
    assert by_hand() == by_hand()
    assert hash(by_hand()) == hash(by_hand())
    assert by_hand() != group("mlp")
    assert by_hand() != object()


def test_files_from_before_pins_had_kinds_are_still_read() -> None:
    content = json.loads(by_hand().to_json())
    content["format"] = "fxrebasin.symmetry/1"
    del content["digest"]
    content["pinned"] = [
        {"parameter": p.parameter, "dim": p.dim, "units": p.units, "reason": p.reason}
        for p in by_hand().pinned
    ]
    back = Symmetry.from_json(json.dumps(content))
    assert str(back) == str(by_hand())
    assert {p.kind for p in back.pinned} == {PinKind.UNRECORDED}


@pytest.mark.parametrize("text", ["", "not json", "[]", "null", "3", "{}", '"text"'])
def test_text_that_is_no_symmetry(text: str) -> None:
    with pytest.raises(FileFormatError, match="this is not a symmetry written as JSON"):
        Symmetry.from_json(text)


def test_another_version_of_the_format() -> None:
    content = json.loads(by_hand().to_json())
    content["format"] = "fxrebasin.symmetry/99"
    with pytest.raises(
        FileFormatError, match=r"'fxrebasin.symmetry/3', found 'fxrebasin.symmetry/99'"
    ):
        Symmetry.from_json(json.dumps(content))


DAMAGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no blocks": lambda c: c.pop("blocks"),
    "an unknown block": lambda c: c["blocks"].clear(),
    "axes that are no pairs": lambda c: c["blocks"][0].update(axes=[["w"]]),
    "no shape": lambda c: c["parameters"][0].update(shape=None),
    "positions beyond all numbers": lambda c: c["parameters"][0]["groups"][0]["segments"][0][
        "positions"
    ].__setitem__(0, 10**30),
    "positions cut short": lambda c: c["parameters"][0]["groups"][0]["segments"][0][
        "positions"
    ].pop(),
    "a pin too many words": lambda c: c["pinned"][0].update(colour="red"),
    "a pin of no known kind": lambda c: c["pinned"][0].update(kind="red"),
    "a list for a dict": lambda c: c["parameters"][0].update(groups=[[1]]),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_json(name: str) -> None:
    content = without_digest(by_hand().to_json())
    DAMAGE[name](content)
    with pytest.raises(FileFormatError) as caught:
        Symmetry.from_json(json.dumps(content))
    assert str(caught.value).startswith("this is not a symmetry written as JSON: ")


def without_digest(text: str) -> dict[str, Any]:
    """As text was written before there were digests."""
    content: dict[str, Any] = json.loads(text)
    assert content.pop("digest") and content["format"] == "fxrebasin.symmetry/3"
    return {**content, "format": "fxrebasin.symmetry/2"}


def test_text_from_before_there_were_digests_is_still_read() -> None:
    assert Symmetry.from_json(json.dumps(without_digest(by_hand().to_json()))) == by_hand()


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a note": lambda c: c["notes"].append("all is well"),
    "two positions that change places": lambda c: c["parameters"][0]["groups"][0]["segments"][0][
        "positions"
    ].reverse(),
    "another log order": lambda c: c.update(log_order=1.0),
    "the format before digests": lambda c: c.update(format="fxrebasin.symmetry/2"),
    "no digest": lambda c: c.pop("digest"),
    "other parameters left alone": lambda c: c.update(untouched=["other"]),
    "no word of what was left alone": lambda c: c.pop("untouched"),
    "tested at other sizes": lambda c: c.update(tested_at="9 along dim 0"),
    "another digest": lambda c: c.update(digest="0" * 64),
    "a tensor of another name": lambda c: c["parameters"][0].update(names=["other"]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_digest_sees_what_was_changed(name: str) -> None:
    content = json.loads(by_hand().to_json())
    CHANGES[name](content)
    with pytest.raises(FileFormatError) as caught:
        Symmetry.from_json(json.dumps(content))
    text = str(caught.value)
    assert "that it names, found" in text and "the text was changed after it was written" in text
    assert text.endswith("write it again with Symmetry.to_json")


def test_no_random_damage_to_text_is_taken_for_another_group() -> None:
    rng = random.Random(0)
    right = by_hand().to_json()
    refused = 0
    for _ in range(500):
        at = rng.randrange(len(right))
        text = right[:at] + rng.choice('0123456789abcdef[]{},:"-') + right[at + 1 :]
        try:
            assert Symmetry.from_json(text) == by_hand(), text
        except FileFormatError:
            refused += 1
        assert text == right or refused
    assert refused > 450


def test_nesting_without_end_is_no_symmetry() -> None:
    with pytest.raises(FileFormatError, match="expected a dozen levels of nesting, found far more"):
        Symmetry.from_json("[" * 100_000)


# unknown ops


@torch.library.custom_op("fxrebasin_test_symmetry::reverse_and_scale", mutates_args=())
def reverse_and_scale(x: Tensor) -> Tensor:
    return x.flip(1) * torch.arange(x.shape[1])


class WithUnknownOp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Linear(3, 4), nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = reverse_and_scale(self.one(x))
        return self.three(reverse_and_scale(self.two(x).relu()).relu())


def test_unknown_ops_are_listed_counted_and_pinned() -> None:
    symmetry = fr.analyze(WithUnknownOp(), args=(torch.zeros(1, 3),))
    op = "fxrebasin_test_symmetry.reverse_and_scale.default"
    assert symmetry.unknown_ops == {op: 2}
    assert len(symmetry) == 0
    assert f"not understood: {op} (2 times), which pins 18 units of parameters" in str(symmetry)
    pins = {(p.parameter, p.dim): p for p in symmetry.pinned}
    pin = pins["one.weight", 0]
    assert pin.reason == f"{op} is not understood (at reverse_and_scale_default)"
    assert (pin.kind, pin.op, pin.node) == (PinKind.UNKNOWN_OP, op, "reverse_and_scale_default")


def test_an_op_is_not_counted_for_one_whose_name_begins_like_its_own() -> None:
    pins = (
        Pinned("w", 0, 3, PinKind.UNKNOWN_OP, "odd.op is not understood", "odd.op"),
        Pinned("w", 1, 4, PinKind.UNKNOWN_OP, "odd.op2 is not understood", "odd.op2"),
    )
    text = str(Symmetry({}, (), pins, {"odd.op": 1, "odd.op2": 1}))
    assert "odd.op (1 times), which pins 3 units" in text
    assert "odd.op2 (1 times), which pins 4 units" in text


@pytest.mark.parametrize(
    ("parameter", "dim", "kind"),
    [
        ("two.bias", 0, PinKind.OUTPUT),
        ("one.weight", 1, PinKind.FIXED_PLACE),
        ("beside.weight", 0, PinKind.CONSTRAINT),
        ("unused", 0, PinKind.UNUSED),
    ],
)
def test_pins_say_of_what_kind_they_are(parameter: str, dim: int, kind: PinKind) -> None:
    symmetry = fr.analyze(
        WithPins(), args=(torch.zeros(1, 3),), constraints=[fr.pin("beside.weight", 0)]
    )
    found = {(p.parameter, p.dim): p.kind for p in symmetry.pinned}
    assert found[parameter, dim] is kind


class WithPins(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.beside, self.two = nn.Linear(3, 4), nn.Linear(3, 5), nn.Linear(9, 2)
        self.unused = nn.Parameter(torch.zeros(7))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.two(torch.cat([self.one(x), self.beside(x)], 1).relu())
        return result


def test_names_are_escaped_where_a_notebook_shows_them() -> None:
    name = "<script>alert(1)</script>"
    page = Symmetry({name: Block(name, 3)}, ())._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
