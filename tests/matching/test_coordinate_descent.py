"""Weight matching: what it finds, against exhaustive search and planted permutations."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import cache
from itertools import pairwise, permutations, product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.measuring.random_weights import randomise
from fxrebasin import Alignment, Permutation, Symmetry
from fxrebasin.assignment import assign
from fxrebasin.errors import (
    ArchitectureMismatchError,
    ConvergenceWarning,
    InvalidArgumentError,
    InvalidParameterError,
)
from fxrebasin.matching.descent import Descent
from fxrebasin.matching.schedules import alternating_order, graph_order, random_order
from fxrebasin.matching.solvers import coordinate_descent
from fxrebasin.objectives import weights

torch.set_num_threads(1)

State = dict[str, Tensor]
Factory = Callable[[], nn.Module]


class Residual(nn.Sequential):
    def forward(self, input: Tensor) -> Tensor:
        return input + super().forward(input)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        packed = self.qkv(self.norm(x)).view(b, t, 3, self.heads, c // self.heads)
        q, k, v = packed.permute(2, 0, 3, 1, 4).unbind(0)
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).reshape(b, t, c))


class LSTMNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.leave = nn.LSTM(5, 12, batch_first=True), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.lstm(x)[0])


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 14), nn.ReLU(), nn.Linear(14, 5)
    )


def residual_mlp() -> nn.Module:
    blocks = [
        Residual(nn.LayerNorm(10), nn.Linear(10, 12), nn.ReLU(), nn.Linear(12, 10))
        for _ in range(2)
    ]
    return nn.Sequential(nn.Linear(6, 10), *blocks, nn.Linear(10, 4))


def conv_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 10, 3, padding=1), nn.BatchNorm2d(10), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(10, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
        nn.Flatten(), nn.Linear(12 * 4, 5),
    )  # fmt: skip


def grouped_conv_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 12, 3, groups=4), nn.ReLU(),
        nn.Conv2d(12, 4, 1),
    )  # fmt: skip


def vision_transformer() -> nn.Module:
    block = [
        Residual(Attention(12, 3)),
        Residual(nn.LayerNorm(12), nn.Linear(12, 20), nn.GELU(), nn.Linear(20, 12)),
    ]
    return nn.Sequential(nn.Linear(6, 12), *block, nn.LayerNorm(12), nn.Linear(12, 4))


INPUTS: dict[Factory, tuple[int, ...]] = {
    mlp: (2, 6),
    residual_mlp: (2, 6),
    conv_net: (2, 3, 4, 4),
    grouped_conv_net: (2, 3, 4, 4),
    vision_transformer: (2, 5, 6),
    LSTMNet: (2, 4, 5),
}
NETS = [pytest.param(factory, id=factory.__name__) for factory in INPUTS]


@cache
def group(factory: Factory) -> Symmetry:
    return fr.analyze(factory(), args=(torch.zeros(INPUTS[factory]),))


def random_state(factory: Factory, seed: int) -> State:
    return dict(randomise(factory(), seed).state_dict())


def sample(symmetry: Symmetry, seed: int) -> Permutation:
    return Permutation.random(symmetry, torch.Generator().manual_seed(seed))


def match(symmetry: Symmetry, b: State, a: State, **options: Any) -> Alignment:
    return coordinate_descent(weights(symmetry, b, a), progress=False, **options)


def value(symmetry: Symmetry, a: State, b: State) -> float:
    """The inner product of all that moves, tied tensors once."""
    return sum(
        float((a[p.name].double() * b[p.name].double()).sum())
        for p in symmetry.parameters
        if p.groups and not p.is_buffer
    )


def noisy(state: State, share: float, seed: int = 9) -> State:
    """Noise of a share of each tensor's own size."""
    generator = torch.Generator().manual_seed(seed)
    result = {}
    for name, t in state.items():
        if t.is_floating_point():
            noise = torch.randn(t.shape, generator=generator, dtype=torch.float64)
            result[name] = t + share * t.double().std(correction=0).to(t.dtype) * noise.to(t.dtype)
        else:
            result[name] = t
    return result


# what was planted is found


@pytest.mark.parametrize("noise", [0.0, 0.01])
@pytest.mark.parametrize("factory", NETS)
def test_planted_permutations_are_recovered(factory: Factory, noise: float) -> None:
    symmetry = group(factory)
    a = random_state(factory, 1)
    for seed in range(3):
        planted = sample(symmetry, seed)
        b = noisy(planted.apply(a), noise)
        found = match(symmetry, b, a, seed=seed)
        assert found.permutation.compose(planted).is_identity
        assert found.converged
        if noise == 0:
            back = found.permutation.apply(b)
            assert all(torch.equal(back[name], a[name]) for name in a)
            assert found.objective_after == pytest.approx(value(symmetry, a, a), rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("factory", [mlp, vision_transformer])
def test_planted_permutations_are_recovered_in_every_dtype(
    factory: Factory, dtype: torch.dtype
) -> None:
    symmetry = group(factory)
    a = {k: t.to(dtype) for k, t in random_state(factory, 1).items()}
    planted = sample(symmetry, 7)
    b = planted.apply(a)
    found = match(symmetry, b, a)
    assert found.permutation.compose(planted).is_identity
    back = found.permutation.apply(b)
    assert all(back[k].dtype == dtype and torch.equal(back[k], a[k]) for k in a)


def test_two_models_of_different_dtypes() -> None:
    symmetry = group(mlp)
    a = random_state(mlp, 1)
    planted = sample(symmetry, 7)
    b = {k: t.to(torch.bfloat16) for k, t in planted.apply(a).items()}
    assert match(symmetry, b, a).permutation.compose(planted).is_identity


# what is found is best


def exhaustive(symmetry: Symmetry) -> list[Permutation]:
    """The whole group."""
    choices = []
    for block in symmetry:
        orders = [np.array(order) for order in permutations(range(block.size))]
        choices.append([np.stack(rows) for rows in product(orders, repeat=block.count)])
    names = [block.name for block in symmetry]
    return [
        Permutation(symmetry, dict(zip(names, chosen, strict=True))) for chosen in product(*choices)
    ]


class Towers(nn.Module):
    """Two blocks that share no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        self.two = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.one(x) + self.two(x)


TINY = {
    "one layer": (lambda: nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)), (2, 3)),
    "two towers": (Towers, (2, 3)),
    "groups": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 1), nn.GroupNorm(2, 6), nn.ReLU(), nn.Conv2d(6, 2, 1)
        ),
        (2, 3, 3, 3),
    ),
    "one group inside another": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 1), nn.GroupNorm(2, 8), nn.GroupNorm(4, 8), nn.Conv2d(8, 2, 1)
        ),
        (2, 3, 3, 3),
    ),
}


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("seed", range(4))
def test_no_other_element_of_the_group_is_better(name: str, seed: int) -> None:
    factory, shape = TINY[name]
    symmetry = fr.analyze(factory(), args=(torch.zeros(shape),))
    elements = exhaustive(symmetry)
    assert math.log(len(elements)) == pytest.approx(symmetry.log_order)
    a, b = (dict(randomise(factory(), s).state_dict()) for s in (10 + seed, 20 + seed))
    best = max(value(symmetry, a, p.apply(b)) for p in elements)
    assert match(symmetry, b, a).objective_after == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_no_change_of_one_block_alone_is_better(seed: int) -> None:
    """With several layers the result is best block by block."""

    def factory() -> nn.Module:
        return nn.Sequential(
            nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(),
            nn.Linear(4, 2),
        )  # fmt: skip

    symmetry = fr.analyze(factory(), args=(torch.zeros(2, 3),))
    a, b = (dict(randomise(factory(), s).state_dict()) for s in (10 + seed, 20 + seed))
    found = match(symmetry, b, a)
    assert found.converged
    for block in symmetry:
        for order in permutations(range(block.size)):
            indices = {**found.permutation.indices, block.name: np.array([order])}
            other = value(symmetry, a, Permutation(symmetry, indices).apply(b))
            assert other <= found.objective_after + 1e-9


# how it gets there


@pytest.mark.parametrize("factory", NETS)
def test_the_objective_never_falls(factory: Factory) -> None:
    symmetry = group(factory)
    a, b = random_state(factory, 1), random_state(factory, 2)
    found = match(symmetry, b, a)
    steps = [found.objective_before, *found.history]
    assert all(x <= y for x, y in pairwise(steps))
    assert found.objective_after == found.history[-1] > found.objective_before
    assert found.sweeps == len(found.history)
    assert found.converged
    assert found.objective_before == pytest.approx(value(symmetry, a, b), rel=1e-6)
    moved = found.permutation.apply(b)
    assert found.objective_after == pytest.approx(value(symmetry, a, moved), rel=1e-6)


@pytest.mark.parametrize("factory", NETS)
def test_the_result_is_deterministic_for_a_seed(factory: Factory) -> None:
    symmetry = group(factory)
    a, b = random_state(factory, 1), random_state(factory, 2)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - what a careless solver would read
    one = match(symmetry, b, a, seed=3)
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    two = match(symmetry, b, a, seed=3)
    assert one.permutation == two.permutation
    assert one.history == two.history


def test_random_numbers_are_left_alone() -> None:
    symmetry, a, b = group(mlp), random_state(mlp, 1), random_state(mlp, 2)
    before = torch.get_rng_state()
    match(symmetry, b, a)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_is_its_own_best_match() -> None:
    a = random_state(mlp, 1)
    found = match(group(mlp), a, a)
    assert found.permutation.is_identity
    assert found.objective_after == found.objective_before
    assert found.converged


def test_nothing_to_permute() -> None:
    symmetry = fr.analyze(nn.Linear(3, 2), args=(torch.zeros(1, 3),))
    state = dict(nn.Linear(3, 2).state_dict())
    found = match(symmetry, state, state)
    assert found.permutation.is_identity
    assert found.converged
    assert found.objective_after == 0


def test_a_limit_on_sweeps_warns() -> None:
    symmetry = group(mlp)
    a, b = random_state(mlp, 1), random_state(mlp, 2)
    assert match(symmetry, b, a).sweeps > 1
    with pytest.warns(ConvergenceWarning, match="stopped after 1 sweeps"):
        found = match(symmetry, b, a, max_sweeps=1)
    assert not found.converged
    assert found.sweeps == 1
    assert "in 1 sweeps, not converged" in str(found)


def test_no_warning_where_the_limit_is_not_hit() -> None:
    symmetry = group(mlp)
    a, b = random_state(mlp, 1), random_state(mlp, 2)
    enough = match(symmetry, b, a).sweeps
    assert match(symmetry, b, a, max_sweeps=enough).converged


@pytest.mark.parametrize("factory", NETS)
def test_without_sweeps_every_block_stays_where_it_is_first_placed(factory: Factory) -> None:
    symmetry = group(factory)
    a, b = random_state(factory, 1), random_state(factory, 2)
    placed, found = match(symmetry, b, a, max_sweeps=0), match(symmetry, b, a)
    assert (placed.history, placed.converged) == ((), False)
    assert found.objective_before < placed.objective_after <= found.objective_after
    assert "in 0 sweeps, not converged" in str(placed)
    start = sample(symmetry, 0)
    assert match(symmetry, b, a, max_sweeps=0, start=start).permutation == start


def test_no_sweeps_fewer_than_none() -> None:
    a = random_state(mlp, 1)
    with pytest.raises(InvalidArgumentError, match=r"max_sweeps: expected .* at least 0, found -1"):
        match(group(mlp), a, a, max_sweeps=-1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_the_state_dicts_are_not_changed(dtype: torch.dtype) -> None:
    a, b = (
        {k: t.to(dtype) for k, t in random_state(vision_transformer, seed).items()}
        for seed in (1, 2)
    )
    kept = copy.deepcopy((a, b))
    match(group(vision_transformer), b, a)
    for state, before in zip((a, b), kept, strict=True):
        assert list(state) == list(before)
        assert all(torch.equal(state[k], before[k]) for k in before)


def test_a_second_sweep_over_settled_blocks_costs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    symmetry = group(vision_transformer)
    a, b = random_state(vision_transformer, 1), random_state(vision_transformer, 2)
    descent = Descent(weights(symmetry, b, a), Permutation.identity(symmetry).indices)
    order = range(len(descent.trees))
    while descent.sweep(order):
        pass

    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("a settled block was solved again")

    monkeypatch.setattr("fxrebasin.matching.block_solver.assign", forbidden)
    monkeypatch.setattr("fxrebasin.matching.tree_solver.assign", forbidden)
    monkeypatch.setattr("fxrebasin.matching.cost_matrices.CostMatrix._multiply", forbidden)
    assert not descent.sweep(order)


def test_only_neighbours_of_what_moved_are_solved_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a chain of layers, a change of the first block concerns the second one alone."""
    layers = [nn.Linear(4, 8), *(nn.Linear(8, 8) for _ in range(4)), nn.Linear(8, 3)]
    net = nn.Sequential(*layers)
    symmetry = fr.analyze(net, args=(torch.zeros(1, 4),))
    a, b = (dict(randomise(copy.deepcopy(net), seed).state_dict()) for seed in (1, 2))
    descent = Descent(weights(symmetry, b, a), Permutation.identity(symmetry).indices)
    order = range(len(descent.trees))
    while descent.sweep(order):
        pass
    first = descent.trees[0].root
    monkeypatch.setattr(descent, "_accept", lambda k, candidate: False)
    descent._clock += 1
    descent._put(0, {first: np.roll(descent.indices[first], 1, axis=1)})
    solved: list[str] = []

    def noted(costs: Tensor, *, name: str, **options: Any) -> Any:
        solved.append(name)
        return assign(costs, name=name, **options)

    monkeypatch.setattr("fxrebasin.matching.block_solver.assign", noted)
    descent._seen_at[0] = descent._clock
    descent.sweep(order)
    assert solved == [f"the gains of {descent.trees[1].root!r}"]


@pytest.mark.parametrize("order", [random_order, graph_order, alternating_order])
@pytest.mark.parametrize("factory", NETS)
def test_every_order_recovers_what_was_planted(factory: Factory, order: Any) -> None:
    symmetry = group(factory)
    a = random_state(factory, 1)
    planted = sample(symmetry, 3)
    found = match(symmetry, planted.apply(a), a, order=order)
    assert found.permutation.compose(planted).is_identity


def test_match_gives_the_permutation_of_weight_matching() -> None:
    symmetry = group(mlp)
    a, b = random_state(mlp, 1), random_state(mlp, 2)
    found = fr.match(symmetry, b, to=a, seed=5, progress=False)
    assert found == match(symmetry, b, a, seed=5).permutation


def test_without_progress_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    a, b = random_state(mlp, 1), random_state(mlp, 2)
    fr.match(group(mlp), b, to=a, progress=False)
    fr.match(group(mlp), b, to=a)  # the standard error is no terminal here
    assert capfd.readouterr() == ("", "")


def test_what_is_printed() -> None:
    a, b = random_state(mlp, 1), random_state(mlp, 2)
    found = match(group(mlp), b, a)
    text = str(found)
    for part in ("objective", f"{found.sweeps} sweeps", "converged", repr(found.permutation)):
        assert part in text


def test_what_is_not_finite_is_named() -> None:
    a, b = random_state(mlp, 1), random_state(mlp, 2)
    b["2.bias"] = b["2.bias"].clone()
    b["2.bias"][3] = math.nan
    with pytest.raises(InvalidParameterError, match=r"'2.bias' of model B holds nan or inf"):
        fr.match(group(mlp), b, to=a, progress=False)


def test_another_architecture_is_named() -> None:
    a, b = random_state(mlp, 1), random_state(conv_net, 2)
    with pytest.raises(ArchitectureMismatchError, match=r"'0.weight' .* model B"):
        fr.match(group(mlp), b, to=a, progress=False)
