"""What an exchange of two units gains, against the objective itself."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxrebasin as fr
from fxrebasin.matching.descent import Descent
from fxrebasin.matching.swaps import exchange, swap_gains
from fxrebasin.objectives import weights

torch.set_num_threads(1)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.leave = nn.LSTM(3, 6, batch_first=True), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.cell(x)[0])


class SquareMap(nn.Module):
    """A residual map from a block to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.inner, self.leave = nn.Linear(3, 7), nn.Linear(7, 7), nn.Linear(7, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).relu()
        return self.leave(x + self.inner(x))


class SquareKernel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.inner = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, padding=1)
        self.leave = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).relu()
        return self.leave(x + self.inner(x))


INPUTS: dict[type[nn.Module], tuple[int, ...]] = {
    Recurrent: (2, 4, 3),
    SquareMap: (2, 3),
    SquareKernel: (2, 3, 4, 4),
}
NETS = [pytest.param(net, id=net.__name__) for net in INPUTS]


def descent_of(net: type[nn.Module], seed: int) -> Descent:
    symmetry = fr.analyze(net(), args=(torch.zeros(INPUTS[net]),))
    generator = torch.Generator().manual_seed(seed)
    a, b = (
        {
            k: torch.randn(t.shape, generator=generator, dtype=torch.float64)
            for k, t in net().state_dict().items()
        }
        for _ in range(2)
    )
    start = fr.Permutation.random(symmetry, generator)
    return Descent(weights(symmetry, b, a), start.indices)


def value(descent: Descent, root: str, indices: np.ndarray) -> float:
    objective = descent.objective
    moved = {**descent.indices, root: indices}
    terms = range(len(objective.terms))
    return sum(objective.value_at(t, objective.sources(moved, t)) for t in terms)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("seed", range(3))
def test_gains_are_those_of_the_objective(net: type[nn.Module], seed: int) -> None:
    descent = descent_of(net, seed)
    (tree,) = descent.trees
    assert tree.bilinear
    tree.costs[tree.root].update(descent.indices, descent.sources, set(tree.terms))
    indices = descent.indices[tree.root]
    gains = swap_gains(descent.objective, tree, indices, descent.sources)
    assert not gains.diagonal().any()
    for i, j in combinations(range(indices.size), 2):
        moved = indices.copy()
        moved[0, [i, j]] = indices[0, [j, i]]
        rise = value(descent, tree.root, moved) - descent.total
        assert float(gains[i, j]) == pytest.approx(rise, rel=1e-9, abs=1e-9)
        assert float(gains[j, i]) == float(gains[i, j])
    for candidate in exchange(descent.objective, tree, indices, descent.sources)[-1:]:
        rise = value(descent, tree.root, candidate) - descent.total
        assert rise == pytest.approx(float(gains.max()), rel=1e-9)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("seed", range(3))
def test_a_descent_ends_where_no_exchange_gains(net: type[nn.Module], seed: int) -> None:
    descent = descent_of(net, seed)
    start = descent.total
    values = [start]
    while descent.sweep(range(len(descent.trees))):
        values.append(descent.total)
    assert values == sorted(values)
    (tree,) = descent.trees
    indices = descent.indices[tree.root]
    reached = value(descent, tree.root, indices)
    assert reached == pytest.approx(descent.total, rel=1e-9)
    for i, j in combinations(range(indices.size), 2):
        moved = indices.copy()
        moved[0, [i, j]] = indices[0, [j, i]]
        assert value(descent, tree.root, moved) <= reached + 1e-7 * abs(reached)
