"""Random weights on which permutations are put one after another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxrebasin as fr
from fxrebasin.symmetry.action import PIECE, take, take_
from fxrebasin.verification.random_weights import LARGE, RandomWeights, disturb

X = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))


def test_permutations_are_put_on_in_any_order_and_taken_off_again() -> None:
    model = net()
    weights = RandomWeights(model, double=True, disturbed=True, seed=0)
    plain = {k: v.clone() for k, v in weights.model.state_dict().items()}
    for pinned in ([], [fr.pin("0.weight", 0)]):
        symmetry = fr.analyze(model, (X,), constraints=pinned)
        for seed in range(3):
            generator = torch.Generator().manual_seed(seed)
            permutation = fr.Permutation.random(symmetry, generator)
            weights.run(permutation, (X.double(),), {})
            expected = permutation.apply(plain)
            now = weights._model.state_dict()
            assert all(torch.equal(now[k], expected[k]) for k in plain)
    assert all(torch.equal(v, plain[k]) for k, v in weights.model.state_dict().items())


class Renormed(nn.Module):
    """Forward makes its own weights smaller each time."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = net()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.inner(x)
        self.calls += 1
        for p in self.inner.parameters():
            p.data.mul_(0.5)
        return found


def test_each_run_begins_with_the_same_weights_whatever_forward_does_to_them() -> None:
    weights = RandomWeights(Renormed(), double=True, disturbed=True, seed=0)
    first, second, third = (weights.run(None, (X.double(),), {}) for _ in range(3))
    assert torch.equal(first[0], second[0]) and torch.equal(second[0], third[0])
    assert weights.model.calls == 0


def test_weights_of_every_size_are_disturbed_by_a_part_of_their_scale() -> None:
    model = nn.ParameterList(
        [torch.ones(7), torch.full((LARGE + 3,), 2.0), torch.randn(700, 700), torch.zeros(3)]
    )
    before = [p.detach().clone() for p in model]
    disturb(model, 0)
    for p, old, scale in zip(model, before, (1, 2, 1, 0.5), strict=True):
        change = (p - old).detach()
        assert change.unique().numel() > 0.5 * min(p.numel(), LARGE)
        assert 0.1 * scale < float(change.std()) < 0.9 * scale


def test_the_user_s_own_weights_stay_as_they_are() -> None:
    model = nn.Linear(600, 600)
    before = model.weight.detach().clone()
    RandomWeights(model, double=False, disturbed=True, seed=0)
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize(
    "shape", [(5,), (5, 4), (3, 5, 4), (2 * PIECE // 500, 500), (1000, 2, 800)]
)
@pytest.mark.parametrize("moved", ["few", "all", "none"])
def test_in_place_the_same_is_taken(shape: tuple[int, ...], moved: str) -> None:
    rng = np.random.default_rng(0)
    for strides in (lambda t: t, lambda t: t.transpose(0, -1).contiguous().transpose(0, -1)):
        for axis, n in enumerate(shape):
            source = np.arange(n)
            if moved == "all":
                source = rng.permutation(n)
            elif moved == "few":
                source[:2] = source[1::-1]
            tensor = strides(torch.randn(shape))
            expected = take(tensor, (axis,), source)
            take_(tensor, (axis,), source)
            assert torch.equal(tensor, expected)


class OfOneSize(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = net()

    def forward(self, x: Tensor) -> Tensor:
        assert len(x) == 2
        found: Tensor = self.inner(x)
        return found


def test_models_that_assert_their_sizes_are_tested_at_these() -> None:
    symmetry = fr.analyze(OfOneSize(), (X,), front_ends=["eager"])
    assert symmetry.movable_units == 11
    assert symmetry.tested_at == ""
