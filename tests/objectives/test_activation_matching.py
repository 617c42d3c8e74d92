"""Units that react alike to the same inputs are found again, wherever they were moved."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

import fxrebasin as fr
from benchmarks.measuring.random_weights import randomise
from fxrebasin.errors import (
    ArchitectureMismatchError,
    InvalidArgumentError,
    InvalidInputError,
    TraceError,
    UnmatchedBlocksWarning,
)


def mlp() -> tuple[nn.Module, Tensor]:
    pairs = itertools.pairwise((5, 12, 8, 3))
    layers = [x for n, m in pairs for x in (nn.Linear(n, m), nn.GELU())]
    return nn.Sequential(*layers[:-1]), torch.randn(64, 5)


class Convolutions(nn.Module):
    """A shortcut around grouped and depthwise kernels, norms, and an activation in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.grouped = nn.Conv2d(12, 12, 3, padding=1, groups=3)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.stem(x)).relu()
        h = h + self.depthwise(self.grouped(h).relu_())
        return self.head(h.mean((2, 3)))


def transformer() -> tuple[nn.Module, Tensor]:
    layer = nn.TransformerEncoderLayer(16, 4, 24, dropout=0.0, batch_first=True)
    return nn.Sequential(nn.Linear(6, 16), layer, nn.Linear(16, 3)), torch.randn(16, 5, 6)


@fx.wrap
def last_after_appending(tensors: list[Tensor]) -> Tensor:
    tensors.append(tensors[0] * 2)
    return tensors[-1]


class NotRunByFx(nn.Module):
    """Its graph by symbolic_trace does not run; that of torch.export does."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.leave(last_after_appending([self.enter(x)]))
        return output


def test_a_graph_that_does_not_run_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, x = NotRunByFx(), NotRunByFx(), torch.randn(8, 3)
    expected = fr.activation_matching(b, to=a, args=(x,), progress=False)
    order: list[fr.FrontEnd] = ["symbolic_trace", "export"]
    monkeypatch.setattr(fr.objectives.activation_matching, "GRAPHS", order)
    found = fr.activation_matching(b, to=a, args=(x,), progress=False)
    assert found.permutation == expected.permutation
    with pytest.raises(InvalidInputError, match=r"node 'last_after_appending' .* failed"):
        fr.objectives.activations(fr.analyze(b, (x,)), b, a, (x,), front_ends=["symbolic_trace"])


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRU(4, 7, batch_first=True), nn.Linear(7, 2)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.head(self.cell(x)[0])
        return output


CASES: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "mlp": mlp,
    "convolutions": lambda: (Convolutions(), torch.randn(16, 3, 6, 6)),
    "transformer": transformer,
    "recurrent": lambda: (Recurrent(), torch.randn(16, 5, 4)),
}


def case(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model, inputs = CASES[name]()
    return randomise(model, 1).eval(), inputs.double()


def match(b: nn.Module, a: nn.Module, *args: Tensor, **options: Any) -> fr.Alignment:
    return fr.activation_matching(b, to=a, args=args, progress=False, **options)


@pytest.mark.parametrize("name", CASES)
def test_a_planted_permutation_is_found(name: str) -> None:
    a, inputs = case(name)
    symmetry = fr.analyze(a, args=(inputs,))
    b = fr.Permutation.random(symmetry, torch.Generator().manual_seed(1)).apply_to(a)
    found = match(b, a, inputs)
    assert found.converged
    assert found.objective_after > found.objective_before
    aligned = found.permutation.apply(b.state_dict())
    for key, tensor in a.state_dict().items():
        assert torch.equal(aligned[key], tensor), key


def test_the_objective_counts_the_units_that_agree() -> None:
    a, inputs = case("mlp")
    found = match(a, a, inputs)
    watched = 12 + 12 + 8 + 8  # before and after each activation function
    assert found.objective_after == pytest.approx(watched)
    assert found.permutation == fr.Permutation.identity(found.permutation.symmetry)


def test_units_that_do_not_react_count_for_nothing() -> None:
    a, inputs = case("mlp")
    with torch.no_grad():
        a.get_parameter("0.weight")[3].zero_()
    b = fr.Permutation.random(
        fr.analyze(a, args=(inputs,)), torch.Generator().manual_seed(1)
    ).apply_to(a)
    found = match(b, a, inputs)
    assert found.objective_after == pytest.approx(12 + 12 + 8 + 8 - 2)
    aligned = found.permutation.apply(b.state_dict())
    assert torch.equal(aligned["0.weight"], a.get_parameter("0.weight"))


def test_weight_matching_goes_on_from_there() -> None:
    (a, inputs), (b, _) = case("mlp"), case("mlp")
    randomise(b, 2)
    symmetry = fr.analyze(b, args=(inputs,))
    start = match(b, a, inputs, symmetry=symmetry).permutation
    assert start.symmetry is symmetry
    states: dict[str, Any] = {"state_dict": b.state_dict(), "to": a.state_dict()}
    solver = partial(fr.solvers.coordinate_descent, order=fr.schedules.graph_order)
    found = fr.weight_matching(symmetry, **states, start=start, solver=solver, progress=False)
    at_start = fr.weight_matching(
        symmetry, start.apply(b.state_dict()), to=a.state_dict(), progress=False
    ).objective_before
    assert found.objective_after >= at_start - 1e-9
    assert found.objective_before < at_start or start == fr.Permutation.identity(symmetry)
    whole = fr.rebasin(b, to=a, args=(inputs,), start=start, progress=False)
    assert whole.report.objective_after >= at_start - 1e-9


def test_blocks_that_activations_do_not_have_stay_and_that_is_said() -> None:
    a, inputs = case("mlp")
    symmetry = fr.analyze(a, args=(inputs,))
    moved = fr.Permutation.random(symmetry, torch.Generator().manual_seed(1)).apply_to(a)
    pinned = [fr.pin("0.weight", 0)]
    with pytest.warns(UnmatchedBlocksWarning) as caught:
        found = match(moved, a, inputs, symmetry=symmetry, constraints=pinned)
    assert str(caught[0].message) == (
        "1 of 2 blocks, '0.weight[0]' among them, stay where they are: with these inputs, rules "
        "and constraints the activations have no such block; give those that the symmetry was "
        "found with"
    )
    indices = found.permutation.indices
    assert (
        indices["0.weight[0]"] == fr.Permutation.identity(symmetry).indices["0.weight[0]"]
    ).all()
    assert (
        indices["2.weight[0]"] != fr.Permutation.identity(symmetry).indices["2.weight[0]"]
    ).any()


@pytest.mark.parametrize("kept", ["parent", "child"])
def test_a_block_is_matched_without_those_nested_in_it(kept: str) -> None:
    """Of a group that lacks one of two nested blocks, what is left is still of that group."""
    a, inputs = case("transformer")
    whole = fr.analyze(a, args=(inputs,))
    nested = next(block for block in whole if block.parent)
    lacking = nested.name if kept == "parent" else str(nested.parent)
    gone = {b.name for b in whole if lacking in (b.name, b.parent)}
    blocks = {name: block for name, block in whole.blocks.items() if name not in gone}
    part = replace(whole, blocks=blocks)
    objective = fr.objectives.activations(part, a, a, (inputs,))
    assert {name for t in objective.terms for name in t.blocks} <= set(blocks)
    found = fr.solvers.coordinate_descent(objective, progress=False)
    assert found.permutation == fr.Permutation.identity(part)


def test_a_start_must_be_of_the_same_blocks() -> None:
    (a, inputs), (other, images) = case("mlp"), case("convolutions")
    symmetry = fr.analyze(a, args=(inputs,))
    start = fr.Permutation.identity(fr.analyze(other, args=(images,)))
    states: dict[str, Any] = {"state_dict": a.state_dict(), "to": a.state_dict()}
    with pytest.raises(InvalidArgumentError, match="start: expected a permutation of the blocks"):
        fr.weight_matching(symmetry, **states, start=start)


def test_models_and_random_numbers_stay_as_they_are() -> None:
    (a, inputs), (b, _) = case("convolutions"), case("convolutions")
    a.train()
    before = {k: v.clone() for k, v in [*a.state_dict().items(), *b.state_dict().items()]}
    given, state = inputs.clone(), torch.get_rng_state()
    match(b, a, inputs)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(inputs, given)
    assert a.training
    assert not b.training
    assert all(torch.equal(before[k], v) for k, v in b.state_dict().items())


def test_coarse_numbers() -> None:
    a, inputs = case("mlp")
    a, inputs = a.bfloat16(), inputs.bfloat16()
    b = fr.Permutation.random(
        fr.analyze(a, args=(inputs,)), torch.Generator().manual_seed(1)
    ).apply_to(a)
    aligned = match(b, a, inputs).permutation.apply(b.state_dict())
    assert all(torch.equal(aligned[k], v) for k, v in a.state_dict().items())


def test_models_that_take_other_paths_cannot_be_compared() -> None:
    class Either(nn.Module):
        def __init__(self, twice: bool) -> None:
            super().__init__()
            self.twice = twice
            self.first, self.head = nn.Linear(3, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = self.first(torch.cat([x, x]) if self.twice else x)
            return self.head(h.relu())

    with pytest.raises(ArchitectureMismatchError, match="both must take the same path"):
        match(Either(False), Either(True), torch.randn(4, 3))


def test_nothing_to_compare() -> None:
    with pytest.raises(InvalidArgumentError, match="no layer with weights"):
        match(nn.Linear(3, 2), nn.Linear(3, 2), torch.randn(4, 3))


def test_a_graph_is_needed() -> None:
    a, inputs = case("mlp")
    with pytest.raises(TraceError):
        match(a, a, inputs, front_ends=("eager",))


class SquareRecurrence(nn.Module):
    """Its units meet themselves: from most places, the descent ends below the best."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(1, 16, bias=False), nn.Linear(16, 1, bias=False)
        self.again = nn.Parameter(torch.randn(16, 16))

    def forward(self, x: Tensor) -> Tensor:
        h = (self.into(x).tanh() @ self.again).tanh()
        output: Tensor = self.out((h @ self.again).tanh())
        return output


def test_a_poor_start_is_the_users_choice() -> None:
    torch.manual_seed(0)
    a, inputs = SquareRecurrence().double().eval(), torch.randn(3, 1, dtype=torch.float64)
    symmetry = fr.analyze(a, args=(inputs,))
    lower = 0
    for seed in range(6):
        start = fr.Permutation.random(symmetry, torch.Generator().manual_seed(seed))
        found = fr.rebasin(a, to=a, args=(inputs,), start=start, progress=False)
        assert torch.allclose(found(inputs), a(inputs))
        lower += found.report.objective_after < found.report.objective_before - 1
    assert lower


def test_a_single_example_tells_units_apart_by_nothing() -> None:
    a, b = (nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)) for _ in "ab")
    with pytest.warns(UnmatchedBlocksWarning, match="give a batch of several examples that differ"):
        found = fr.activation_matching(b, to=a, args=(torch.randn(1, 4),), progress=False)
    assert found.permutation.is_identity


def test_the_symmetry_of_another_model_is_refused() -> None:
    small, large = (nn.Sequential(nn.Linear(3, n), nn.Tanh(), nn.Linear(n, 2)) for n in (6, 8))
    x = torch.randn(4, 3)
    symmetry = fr.analyze(small, (x,))
    with pytest.raises(ArchitectureMismatchError, match="symmetry: it has"):
        fr.activation_matching(large, to=large, args=(x,), symmetry=symmetry, progress=False)
