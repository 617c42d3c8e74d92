"""The objective, against sums over all entries written out in Python."""

from __future__ import annotations

import copy
from functools import cache
from itertools import permutations, product

import numpy as np
import pytest
import torch
from networks import NETWORKS
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.measuring.random_weights import randomise
from fxrebasin import Permutation, Segment, Symmetry
from fxrebasin.errors import ArchitectureMismatchError, InvalidParameterError
from fxrebasin.matching.inner_products import InnerProducts
from fxrebasin.objectives import weights
from fxrebasin.symmetry.parts import ParameterSymmetry

torch.set_num_threads(1)

State = dict[str, Tensor]
NAMES = [
    "mlp",
    "TiedLinears",
    "attention_by_einsum",
    "attention_from_a_fused_projection",
    "group_norm",
    "grouped_convolution",
    "lstm",
    "rotary_attention",
    "TiedLanguageModel",
]


def value(objective: InnerProducts, permutation: Permutation, term: int) -> float:
    return objective.value_at(term, objective.sources(permutation.indices, term))


@cache
def case(name: str) -> tuple[Symmetry, State, State]:
    """The group of a network, and two random state dicts in float64."""
    torch.manual_seed(0)
    network = NETWORKS[name]
    model = network.factory()
    symmetry = fr.analyze(model, args=network.inputs(2))
    a, b = (
        {k: t.clone() for k, t in randomise(copy.deepcopy(model), seed).state_dict().items()}
        for seed in (1, 2)
    )
    return symmetry, a, b


@pytest.mark.parametrize("name", [*NAMES, "DenseConnections", "residual_mlp"])
def test_only_what_moved_blocks_move_is_placed_anew(name: str) -> None:
    symmetry, a, b = case(name)
    objective = weights(symmetry, b, a)
    before, after = (
        Permutation.random(symmetry, torch.Generator().manual_seed(seed)).indices for seed in (1, 2)
    )
    terms = range(len(objective.terms))
    sources = [objective.sources(before, t) for t in terms]
    kept = copy.deepcopy(sources)
    for some in ([next(iter(symmetry.blocks))], list(symmetry.blocks)[1:], list(symmetry.blocks)):
        indices = {n: after[n] if n in some else before[n] for n in symmetry.blocks}
        moved = objective.sources_after(some, indices, sources)
        assert sorted(moved) == objective.touched(set(some))
        for t in terms:
            expected = objective.sources(indices, t)
            assert all(map(np.array_equal, moved.get(t, sources[t]), expected))
    assert all(
        np.array_equal(x, y) for t in terms for x, y in zip(sources[t], kept[t], strict=True)
    )


def moved_positions(permutation: Permutation, segment: Segment) -> dict[int, int]:
    """Per position of a segment, the position whose entry comes there, one at a time."""
    result = {}
    for place in product(*(range(n) for n in segment.positions.shape)):
        rows: list[int] = []
        source: list[int] = []
        for d, name in enumerate(segment.blocks):
            above = segment.parents[d]
            row = rows[above] if above >= 0 else 0
            rows.append(row * permutation.symmetry.blocks[name].size + place[d])
            source.append(int(permutation.indices[name][row, place[d]]))
        result[int(segment.positions[place])] = int(segment.positions[(*source, place[-1])])
    return result


def inner_product(permutation: Permutation, p: ParameterSymmetry, a: Tensor, b: Tensor) -> float:
    """Of a tensor of A with the permuted one of B, entry by entry."""
    tables = []
    for group in p.groups:
        table: dict[int, int] = {}
        for segment in group.segments:
            if segment.blocks:
                table |= moved_positions(permutation, segment)
        tables.append((group.axes, [p.shape[x] for x in group.axes], table))
    total = 0.0
    for entry in product(*(range(n) for n in p.shape)):
        source = list(entry)
        for axes, sizes, table in tables:
            flat = int(np.ravel_multi_index([entry[x] for x in axes], sizes))
            for x, i in zip(axes, np.unravel_index(table.get(flat, flat), sizes), strict=True):
                source[x] = int(i)
        total += float(a[entry]) * float(b[tuple(source)])
    return total


def sample(symmetry: Symmetry, seed: int) -> Permutation:
    return Permutation.random(symmetry, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", NAMES)
def test_the_value_is_the_inner_product(name: str) -> None:
    symmetry, a, b = case(name)
    objective = weights(symmetry, b, a)
    assert objective.terms
    for permutation in (Permutation.identity(symmetry), sample(symmetry, 0)):
        for t, term in enumerate(objective.terms):
            p = term.moves
            expected = inner_product(permutation, p, a[p.name], b[p.name])
            assert objective.value_at(
                t, objective.sources(permutation.indices, t)
            ) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_the_value_is_that_of_the_permuted_state_dict(name: str) -> None:
    symmetry, a, b = case(name)
    objective = weights(symmetry, b, a)
    permutation = sample(symmetry, 1)
    moved = permutation.apply(b)
    for t, term in enumerate(objective.terms):
        expected = float((a[term.moves.name] * moved[term.moves.name]).sum())
        assert value(objective, permutation, t) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_that_moves_votes_once_and_no_buffer_does(name: str) -> None:
    symmetry, a, b = case(name)
    objective = weights(symmetry, b, a)
    moving = [p.name for p in symmetry.parameters if p.groups and not p.is_buffer]
    assert [term.moves.name for term in objective.terms] == moving
    for name_, block in symmetry.blocks.items():
        touched = {objective.terms[t].moves.name for t in objective.touched({name_})}
        assert touched == {n for n, _ in block.axes if n in moving}


@pytest.mark.parametrize("network", ["mlp", "grouped_convolution", "group_norm"])
def test_the_gains_of_one_block_say_what_each_placement_is_worth(network: str) -> None:
    """Over the permutations of one block, gains and objective differ by a constant."""
    symmetry, a, b = case(network)
    objective = weights(symmetry, b, a)
    start = sample(symmetry, 2)
    roots = [block for block in symmetry if block.parent is None]
    for block in roots:
        family = {block.name}
        gains = np.zeros((block.size, block.size))
        for occurrence in objective.occurrences[block.name]:
            left, right = objective.pair(start.indices, occurrence, family)
            assert left.shape[0] == right.shape[0] == block.size
            if not symmetry.children(block.name):
                left, right = left.reshape(block.size, -1), right.reshape(block.size, -1)
                gains += (left @ right.T).numpy()
        if symmetry.children(block.name):
            continue
        differences = []
        for order in list(permutations(range(block.size)))[:60]:
            index = np.array(order)
            indices = {**start.indices, block.name: index[None]}
            moved = Permutation(symmetry, indices)
            total = sum(value(objective, moved, t) for t in objective.touched(family))
            differences.append(total - gains[np.arange(block.size), index].sum())
        assert np.ptp(differences) < 1e-9 * np.abs(gains).sum()


def test_the_gains_of_a_nested_block_under_one_parent() -> None:
    symmetry, a, b = case("group_norm")
    (inner,) = (block for block in symmetry if block.parent)
    objective = weights(symmetry, b, a)
    start = Permutation.identity(symmetry)
    free = {inner.name}
    n = inner.units
    gains = np.zeros((n, n))
    for occurrence in objective.occurrences[inner.name]:
        segment = occurrence.segment
        assert segment.blocks[-1] == inner.name
        left, right = objective.pair(start.indices, occurrence, {*free, str(inner.parent)})
        gains += (left.reshape(n, -1) @ right.reshape(n, -1).T).numpy()
    differences = []
    for order in permutations(range(inner.size)):
        table = np.tile(np.arange(inner.size), (inner.count, 1))
        table[0] = order
        moved = Permutation(symmetry, {**start.indices, inner.name: table})
        total = sum(value(objective, moved, t) for t in objective.touched(free))
        flat = moved.flat(inner.name)
        differences.append(total - gains[np.arange(n), flat].sum())
    assert np.ptp(differences) < 1e-9 * np.abs(gains).sum()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    symmetry, a, b = case("mlp")
    a, b = ({k: t.to(dtype) for k, t in state.items()} for state in (a, b))
    objective = weights(symmetry, b, a)
    for t, term in enumerate(objective.terms):
        assert term.a.dtype == term.b.dtype == torch.float32
        name = term.moves.name
        expected = float((a[name].double() * b[name].double()).sum())
        assert value(objective, Permutation.identity(symmetry), t) == pytest.approx(
            expected, rel=1e-4
        )


def test_one_float64_model_is_enough_for_float64() -> None:
    symmetry, a, b = case("mlp")
    low = {k: t.half() for k, t in b.items()}
    assert weights(symmetry, low, a).terms[0].b.dtype == torch.float64


def test_where_it_is_computed() -> None:
    symmetry, a, b = case("mlp")
    objective = weights(symmetry, b, a, device="cpu")
    assert {term.a.device.type for term in objective.terms} == {"cpu"}


@pytest.mark.parametrize("which", ["A", "B"])
def test_a_missing_parameter_is_named(which: str) -> None:
    symmetry, a, b = case("mlp")
    a, b = dict(a), dict(b)
    del (a if which == "A" else b)["0.bias"]
    with pytest.raises(ArchitectureMismatchError, match=f"model {which} has no parameter '0.bias'"):
        weights(symmetry, b, a)


@pytest.mark.parametrize("which", ["A", "B"])
def test_another_shape_is_named(which: str) -> None:
    symmetry, a, b = case("mlp")
    a, b = dict(a), dict(b)
    (a if which == "A" else b)["0.weight"] = torch.zeros(9, 3)
    with pytest.raises(ArchitectureMismatchError) as caught:
        weights(symmetry, b, a)
    for part in ("'0.weight'", "(9, 3)", "(6, 3)", f"model {which}"):
        assert part in str(caught.value)


@pytest.mark.parametrize("which", ["A", "B"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_named(which: str, bad: float) -> None:
    symmetry, a, b = case("mlp")
    a, b = dict(a), dict(b)
    state = a if which == "A" else b
    state["2.weight"] = state["2.weight"].clone()
    state["2.weight"][1, 2] = bad
    with pytest.raises(
        InvalidParameterError, match=f"'2.weight' of model {which} holds nan or inf"
    ):
        weights(symmetry, b, a)


def test_large_weights_are_finite() -> None:
    symmetry, a, b = case("mlp")
    low = {k: torch.full_like(t, 6e4, dtype=torch.float16) for k, t in b.items()}
    assert weights(symmetry, low, a).terms


class Causal(nn.Module):
    """A mask of -inf is a constant, not a broken weight."""

    mask: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(3, 6), nn.Linear(6, 2)
        self.register_buffer("mask", torch.full((4, 4), -torch.inf).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        weights = (x @ x.mT + self.mask).softmax(-1)
        return self.leave(self.enter(weights @ x).relu())


def test_buffers_may_hold_infinity() -> None:
    x = torch.randn(2, 4, 3)
    aligned = fr.rebasin(Causal(), to=Causal(), args=(x,), progress=False)
    assert aligned.report.symmetry.movable_units == 6


@pytest.mark.parametrize("scale", [2.0**-100, 2.0**-60, 1.0, 2.0**60, 2.0**100])
def test_results_do_not_depend_on_the_scale_of_the_weights(scale: float) -> None:
    a, b = (nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)) for _ in "ab")
    symmetry = fr.analyze(a, args=(torch.zeros(1, 3),))
    states = [{k: v.detach() for k, v in m.state_dict().items()} for m in (b, a)]
    scaled = [{k: v * scale for k, v in state.items()} for state in states]
    found, expected = (
        fr.weight_matching(symmetry, one, to=other, progress=False)
        for one, other in (scaled, states)
    )
    assert found.permutation == expected.permutation
    assert expected.permutation.moved_units
    assert found.objective_after == pytest.approx(expected.objective_after * scale**2, rel=1e-5)
