"""Signed permutations: planted ones are found again, and everything that reads them follows."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.measuring.random_weights import randomise
from fxrebasin.errors import InvalidArgumentError
from fxrebasin.matching.transforms.acting import value_at
from fxrebasin.matching.transforms.descent import TransformDescent
from fxrebasin.matching.transforms.groups import steps_of
from fxrebasin.objectives import weights

torch.set_num_threads(1)


class Recurrent(nn.Module):
    def __init__(self, kind: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.cells, self.leave = kind(4, 10, num_layers=2, batch_first=True), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.cells(x)[0])


class Sine(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x)


def layers(act: type[nn.Module]) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 12), act(), nn.Linear(12, 11), act(), nn.Linear(11, 3))


NETS: dict[str, Callable[[], nn.Module]] = {
    "tanh": lambda: layers(nn.Tanh),
    "siren": lambda: layers(Sine),
    "rnn": lambda: Recurrent(nn.RNN),
    "lstm": lambda: Recurrent(nn.LSTM),
    "gru": lambda: Recurrent(nn.GRU),
}


def inputs(name: str) -> Tensor:
    shape = (5, 4) if name in ("tanh", "siren") else (5, 6, 4)
    return torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def made(name: str, seed: int) -> nn.Module:
    return randomise(NETS[name](), seed).double().eval()


def planted(name: str, seed: int = 0) -> tuple[fr.Symmetry, nn.Module, fr.Transform]:
    net = made(name, 1)
    symmetry = fr.analyze(net, (inputs(name),))
    drawn = fr.Transform.random(symmetry, torch.Generator().manual_seed(seed), group="signed")
    assert drawn.signs
    return symmetry, net, drawn


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NETS)
def test_planted_signs_are_found_again_exactly(name: str, dtype: torch.dtype) -> None:
    symmetry, net, drawn = planted(name)
    a = {n: t.to(dtype) for n, t in net.state_dict().items()}
    b = drawn.apply(a)
    found = fr.match(symmetry, b, to=a, progress=False)
    assert found == drawn.inverse()
    back = found.apply(b)
    assert all(torch.equal(back[n], t) and back[n].dtype == t.dtype for n, t in a.items())
    only_moved = fr.match(symmetry, b, to=a, group="permutations", progress=False)
    assert isinstance(only_moved, fr.Permutation)


@pytest.mark.parametrize("name", NETS)
def test_the_objective_is_what_is_said_and_never_falls(name: str) -> None:
    x = inputs(name)
    a, b = made(name, 1), made(name, 2)
    symmetry = fr.analyze(b, (x,))
    objective = weights(symmetry, b.state_dict(), a.state_dict())
    start = fr.Permutation.identity(symmetry)
    found = fr.solvers.coordinate_descent(objective, start=start, progress=False)
    values = [found.objective_before, *found.history]
    assert all(after >= before for before, after in pairwise(values))
    assert found.objective_after == pytest.approx(value_at(objective, found.permutation))
    searched = fr.solvers.coordinate_descent(
        objective, budget=fr.Budget(rounds=2), bound=True, progress=False
    )
    assert {r.kick for r in searched.rounds} == {"restart", "rebuild"}
    assert searched.upper_bound is not None
    assert max(found.objective_after, searched.objective_after) <= searched.upper_bound
    assert searched.gains.keys() == found.gains.keys()


@pytest.mark.parametrize("name", NETS)
def test_over_permutations_alone_it_finds_as_much_as_the_solver_of_these(name: str) -> None:
    a, b = made(name, 1), made(name, 2)
    symmetry = fr.analyze(b, (inputs(name),))
    objective = weights(symmetry, b.state_dict(), a.state_dict()).over("permutations")
    fast = fr.solvers.coordinate_descent(objective, progress=False)
    descent = TransformDescent(objective, {})
    descent.rebuild(range(len(descent.trees)))
    while descent.sweep(range(len(descent.trees))):
        pass
    scale = abs(fast.objective_after - fast.objective_before)
    assert descent.total >= fast.objective_after - 0.1 * scale


@pytest.mark.parametrize("name", NETS)
def test_activations_tell_signs_too(name: str) -> None:
    _, net, drawn = planted(name)
    found = fr.activation_matching(
        drawn.apply_to(net), to=net, args=(inputs(name),), progress=False
    )
    back = drawn.inverse()
    seen = list(found.permutation.signs)  # what lies between two layers of a network is not seen
    assert seen == list(drawn.signs) if name in ("tanh", "siren") else len(seen) == 1
    for block in seen:
        assert np.array_equal(found.permutation.signs[block], back.signs[block])
        assert np.array_equal(found.permutation.indices[block], back.indices[block])


class Partly(nn.Module):
    """Units that change signs in one weight under two names, and a layer that is not used."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.unused, self.leave = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2)
        self.one, self.other = nn.Linear(8, 8), nn.Linear(8, 8)
        self.other.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.enter(x))
        return self.leave(torch.tanh(self.one(h) + self.other(h)))


@pytest.mark.filterwarnings("ignore::fxrebasin.errors.UntouchedWarning")
@pytest.mark.parametrize("front_end", ["export", "symbolic_trace"])
def test_activations_tell_signs_where_a_graph_lacks_what_is_not_used(front_end: Any) -> None:
    a, x = randomise(Partly(), 1).double(), inputs("tanh")
    symmetry = fr.analyze(a, (x,))
    drawn = fr.Transform.random(symmetry, torch.Generator().manual_seed(0), group="signed")
    options: dict[str, Any] = {"symmetry": symmetry, "front_ends": (front_end,), "progress": False}
    found = fr.activation_matching(drawn.apply_to(a), to=a, args=(x,), **options).permutation
    assert found.signs.keys() == drawn.signs.keys()
    back = drawn.inverse()
    assert all(np.array_equal(found.signs[b], back.signs[b]) for b in found.signs)


def test_a_module_is_aligned_with_signs_and_computes_the_same() -> None:
    symmetry, net, drawn = planted("tanh")
    moved, x = drawn.apply_to(net), inputs("tanh")
    before = {n: t.clone() for n, t in moved.state_dict().items()}
    aligned = fr.rebasin(moved, to=net, args=(x,), progress=False)
    assert aligned.report.permutation == drawn.inverse()
    assert "signs changed" in str(aligned.report)
    assert torch.equal(aligned.state_dict()["0.weight"], net.state_dict()["0.weight"])
    assert all(torch.equal(before[n], t) for n, t in moved.state_dict().items())
    inside = fr.rebasin(moved, to=net, args=(x,), symmetry=symmetry, inplace=True, progress=False)
    assert torch.equal(moved.state_dict()["2.weight"], net.state_dict()["2.weight"])
    assert torch.allclose(inside(x), net(x))
    plain = fr.rebasin(drawn.apply_to(net), to=net, args=(x,), group="permutations", progress=False)
    assert type(plain.report.permutation) is fr.Permutation


@pytest.mark.parametrize(
    "method", ["to_reference", "sequential", "many", "tree", "cycle_consistent"]
)
def test_models_that_differ_by_signs_merge_to_one_of_them(method: str) -> None:
    symmetry, net, drawn = planted("tanh")
    state = net.state_dict()
    merged = getattr(fr.merge_methods, method)(
        symmetry, [state, drawn.apply(state)], progress=False
    )
    assert all(torch.allclose(merged.state_dict[n], t) for n, t in state.items())
    assert merged.permutations[1] == drawn.inverse()


def test_modules_that_differ_by_signs_merge_to_one_of_them() -> None:
    symmetry, net, drawn = planted("tanh")
    x = inputs("tanh")

    def size(model: nn.Module) -> float:
        return model(x).detach().square().mean().item()

    models = [net, drawn.apply_to(net)]
    merged = fr.merge(models, data=[(x, x.argmax(1) % 3)], progress=False)
    assert torch.allclose(merged(x), net(x))
    a, b = models
    path = fr.interpolate(a, b, size, symmetry=symmetry, steps=3, progress=False)
    assert path.barrier == pytest.approx(0, abs=1e-9)


def test_fisher_information_has_no_sign() -> None:
    symmetry, net, drawn = planted("tanh")
    state = net.state_dict()
    certain = {n: torch.ones_like(t) for n, t in state.items()}
    merged = fr.merge_methods.fisher_weighted(
        symmetry, [state, drawn.apply(state)], fisher=[certain, certain], progress=False
    )
    assert all(torch.allclose(merged.state_dict[n], t) for n, t in state.items())


def test_a_diagnosis_follows_signs() -> None:
    _, net, drawn = planted("tanh")
    moved = drawn.apply_to(net)
    found = fr.diagnose(net, moved, drawn.inverse(), progress=False)
    assert found.distance_after == pytest.approx(0, abs=1e-6)
    assert all(block.gain is not None and block.gain > 0 for block in found.blocks)


def test_a_start_has_to_be_one_that_is_searched() -> None:
    symmetry, net, drawn = planted("tanh")
    state = net.state_dict()
    with pytest.raises(InvalidArgumentError, match=r"start: expected a permutation of block"):
        fr.match(symmetry, state, to=state, start=drawn, group="permutations", progress=False)
    with pytest.raises(InvalidArgumentError, match=r"start: expected a permutation of block"):
        fr.match(symmetry, state, to=state, start=drawn, solver=fr.solvers.frank_wolfe)
    again = fr.match(symmetry, state, to=drawn.apply(state), start=drawn, progress=False)
    assert again == drawn


def test_kinds_are_not_asked_for_where_nothing_can_change_signs() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    symmetry = fr.analyze(net, (torch.zeros(1, 4),))
    assert not steps_of(symmetry, "signed")
    fr.match(symmetry, net.state_dict(), to=net.state_dict(), progress=False)
    assert "kinds" not in vars(symmetry)
    assert np.array_equal(fr.Permutation.identity(symmetry).indices["0.weight[0]"], [np.arange(8)])


def test_several_objectives_at_once_follow_signs() -> None:
    symmetry, net, drawn = planted("tanh")
    x, state = inputs("tanh"), net.state_dict()
    both = fr.objectives.mixed(
        [
            weights(symmetry, drawn.apply(state), state),
            fr.objectives.activations(symmetry, drawn.apply_to(net), net, (x,)),
        ]
    )
    found = fr.solvers.coordinate_descent(both, progress=False)
    assert found.permutation == drawn.inverse()
    assert found.objective_after == pytest.approx(1)
