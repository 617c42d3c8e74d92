"""Biases by their heights, in networks that are homogeneous and in those that are not."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from merges import mean_of, parents
from torch import Tensor, nn

import fxrebasin as fr
from fxrebasin.errors import ArchitectureMismatchError, TraceError
from fxrebasin.repair.heights import heights_of
from fxrebasin.tracing.export import export


def plain() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3)),
        *(nn.LeakyReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout()),
        *(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2)),
    )


def residual() -> nn.Module:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c, self.d = (nn.Conv2d(3, 3, 1) for _ in "abcd")

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x).relu() + self.b(x)  # of one height
            x = x + self.c(x).relu()  # of two
            result: Tensor = self.d(x)
            return result

    return Model()


def normed() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 4, 3), nn.Sigmoid(), nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4), nn.ReLU()),
        nn.Conv2d(4, 2, 1),
    )


X = torch.randn(2, 3, 8, 8)


@pytest.mark.parametrize(
    ("make", "heights", "left"),
    [
        (plain, {"0.bias": 1, "3.bias": 2, "8.bias": 3, "10.bias": 4}, {}),
        (
            residual,
            {"a.bias": 1, "b.bias": 1, "c.bias": 2},
            {"d": "there is no height after 'add'"},
        ),
        (normed, {"0.bias": 1, "5.bias": 2}, {"2": "there is no height after 'sigmoid'"}),
    ],
)
def test_heights(make: Callable[[], nn.Module], heights: dict[str, int], left: object) -> None:
    assert heights_of(export(make().eval(), (X,), {})) == (heights, left)


def test_a_scaled_homogeneous_network_is_scaled() -> None:
    """What heights are for: weights times t, and biases times t^h, give t^L times the result."""
    model, t = parents(plain, 1)[0], 0.7
    scaled = copy.deepcopy(model)
    heights, _ = heights_of(export(model, (X,), {}))
    with torch.no_grad():
        for name, parameter in scaled.named_parameters():
            parameter.mul_(t ** heights.get(name, 1))
    torch.testing.assert_close(scaled(X), t**4 * model(X))


@pytest.mark.parametrize("weights", [None, [3.0, 1.0]])
def test_the_bias_of_height_h_takes_the_powers(weights: list[float] | None) -> None:
    a, b = parents(plain)
    shares = [0.5, 0.5] if weights is None else [0.75, 0.25]
    merged = mean_of([a, b], shares)
    result = fr.calibrate_biases(merged, like=[a, b], args=(X,), weights=weights)
    assert [*result.state_dict()] == [*merged.state_dict()]
    for name, height in {"0": 1, "3": 2, "8": 3, "10": 4}.items():
        layer = result.get_submodule(name)
        one, other = (p.get_submodule(name).bias for p in (a, b))
        torch.testing.assert_close(
            layer.bias, shares[0] ** height * one + shares[1] ** height * other
        )
        assert torch.equal(layer.weight, merged.get_submodule(name).weight)


def test_copies_of_one_network_give_the_network_scaled() -> None:
    (model,) = parents(plain, 1)
    halves = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in halves.parameters():
            parameter.mul_(0.5)
    zero = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in zero.parameters():
            parameter.zero_()
    result = fr.calibrate_biases(halves, like=[model, zero], args=(X,))
    torch.testing.assert_close(result(X), 0.5**4 * model(X))


def test_what_has_no_height_stays() -> None:
    a, b = parents(residual)
    merged = mean_of([a, b])
    result = fr.calibrate_biases(merged, like=[a, b], args=(X,))
    report = vars(result)["repair_report"]
    assert torch.equal(result.get_parameter("d.bias"), merged.get_parameter("d.bias"))
    assert "left alone: d: there is no height after 'add'" in str(report)
    assert repr(report) == "BiasReport(3 biases, 1 left alone)"


def test_in_place_and_not() -> None:
    a, b = parents(plain)
    merged = mean_of([a, b])
    before = {k: v.clone() for k, v in merged.state_dict().items()}
    result = fr.calibrate_biases(merged, like=[a, b], args=(X,))
    assert all(torch.equal(before[k], v) for k, v in merged.state_dict().items())
    assert fr.calibrate_biases(merged, like=[a, b], args=(X,), inplace=True) is merged
    assert torch.equal(result.get_parameter("3.bias"), merged.get_parameter("3.bias"))


def test_other_parents_and_models_without_a_graph_are_refused() -> None:
    (a,) = parents(plain, 1)
    with pytest.raises(ArchitectureMismatchError, match=r"like\[1\]: expected '0.bias' of shape"):
        fr.calibrate_biases(a, like=[a, residual()], args=(X,))

    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.layer(x) if float(x.sum()) > 0 else x
            return result

    with pytest.raises(TraceError):
        fr.calibrate_biases(Branching(), like=[Branching()], args=(X,))
