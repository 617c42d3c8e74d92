"""Axes that turn out to be in groups after their parameter was named."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, einsum, nn, randn
from torch.nn import functional as F

import fxrebasin as fr
from benchmarks.measuring.random_weights import difference, evaluate, randomise
from fxrebasin.layouts.adoption import resolve
from fxrebasin.layouts.coordinates import along, positional
from fxrebasin.layouts.grouped_axes import find_groups, name_in_groups
from fxrebasin.layouts.layout import Layout, Parameter
from fxrebasin.layouts.units import Units
from fxrebasin.signature.apply import apply

GROUPED = "n (g i), (g o) i -> n (g o)"


def parameter(units: Units, *shape: int) -> Parameter:
    return Parameter(("w",), shape, False, tuple(units.fresh(n) for n in shape))


def features(units: Units, n: int) -> Layout:
    return Layout((2, n), (*positional(units, (2, n), (0,)), along(units.fresh(n), 1, 2)))


def test_a_weight_that_names_itself_is_found_to_be_in_groups() -> None:
    units = Units()
    w = parameter(units, 4, 3)
    apply(units, GROUPED, [features(units, 6), resolve(units, w.layout())], (2, 4), {"g": 2})
    ((name, axes),) = find_groups(units, [w]).items()
    assert name == "w"
    assert list(axes) == [1]
    outer, group = axes[1]
    assert outer == 0
    assert group.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("named", [False, True])
def test_nothing_is_found_where_a_weight_adopts_or_has_one_group(named: bool) -> None:
    units = Units()
    w = parameter(units, 4, 6 if named else 3)
    x, groups = features(units, 6), 1 if named else 2
    layout = resolve(units, w.layout()) if named else w.layout()
    apply(units, GROUPED, [x, layout], (2, 4), {"g": groups})
    assert not find_groups(units, [w])


def test_names_per_group() -> None:
    units = Units()
    w = parameter(units, 4, 3)
    name_in_groups(units, w, {"w": {1: (0, np.array([0, 0, 1, 1]))}})
    outputs, inputs = resolve(units, w.layout()).coordinates
    assert outputs.shape == (4, 1)
    assert inputs.shape == (4, 3)
    assert np.array_equal(inputs[0], inputs[1])
    assert np.array_equal(inputs[2], inputs[3])
    assert len(np.unique(inputs)) == 6


class UsedTwice(nn.Module):
    """One normalised weight for the two groups of one convolution, and for all of another."""

    def __init__(self) -> None:
        super().__init__()
        self.whole, self.parts = nn.Linear(3, 4), nn.Linear(3, 8)
        self.weight = nn.Parameter(randn(6, 4, 1))
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.softmax(1)
        whole = F.conv1d(self.whole(x).tanh()[..., None], weight)
        parts = F.conv1d(self.parts(x).tanh()[..., None], weight, groups=2)
        return self.head((whole + parts).tanh()[..., 0])


class Experts(nn.Module):
    """Normalised weights of a block-diagonal map."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.head = nn.Linear(3, 8), nn.Linear(6, 2)
        self.weight = nn.Parameter(randn(2, 3, 4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x).tanh().unflatten(1, (2, 4))
        out = einsum("ngi,goi->ngo", h, self.weight / self.weight.norm(dim=2, keepdim=True))
        return self.head(out.tanh().flatten(1))


@pytest.mark.parametrize(
    ("kind", "order"), [(UsedTwice, 2 * 24 * 6**2), (Experts, 2 * (24 * 6) ** 2)]
)
def test_what_is_found_leaves_the_function_unchanged(kind: type[nn.Module], order: int) -> None:
    model, x = kind(), randn(5, 3)
    symmetry = fr.analyze(model, args=(x,), check=False)
    assert symmetry.log_order == pytest.approx(math.log(order))
    randomise(model)
    expected = evaluate(model, (x,))
    for seed in range(3):
        moved = fr.Permutation.random(symmetry, torch.Generator().manual_seed(seed)).apply_to(model)
        assert difference(evaluate(moved, (x,)), expected) < 1e-12
