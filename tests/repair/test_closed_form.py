"""One linear layer, repaired from the moments of its inputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxrebasin as fr
from fxrebasin.errors import ArchitectureMismatchError, InvalidArgumentError


def layers(count: int = 3, bias: bool = True) -> list[nn.Linear]:
    torch.manual_seed(0)
    made = [nn.Linear(7, 5, bias=bias) for _ in range(count)]
    for layer in made:
        layer.weight.data *= torch.rand(5, 1) + 0.5
    return made


def merge(parents: list[nn.Linear], shares: list[float]) -> nn.Linear:
    merged = nn.Linear(7, 5, bias=parents[0].bias is not None)
    state = [p.state_dict() for p in parents]
    merged.load_state_dict(
        {k: sum(w * s[k] for w, s in zip(shares, state, strict=True)) for k in state[0]}
    )
    return merged


def inputs() -> Tensor:
    """Correlated, skewed, and not centred."""
    torch.manual_seed(1)
    return torch.randn(400, 7).relu() @ torch.randn(7, 7) + torch.randn(7)


def statistics(layer: nn.Linear, x: Tensor) -> tuple[Tensor, Tensor]:
    result = layer(x).detach().double()
    return result.mean(0), result.std(0, correction=0)


@pytest.mark.parametrize("shares", [[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]])
def test_it_is_exact_for_any_inputs_of_these_moments(shares: list[float]) -> None:
    parents, x = layers(), inputs()
    merged = merge(parents, shares)
    moments: dict[str, Any] = {"mean": x.mean(0), "covariance": torch.cov(x.T, correction=0)}
    repaired = fr.repair_linear(merged, like=parents, weights=shares, **moments)
    mean, std = statistics(repaired, x)
    known = [statistics(parent, x) for parent in parents]
    goal_mean, goal_std = (
        sum(w * k[j] for w, k in zip(shares, known, strict=True)) for j in (0, 1)
    )
    torch.testing.assert_close(mean, goal_mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(std, goal_std, rtol=1e-4, atol=1e-5)


def test_it_is_what_measuring_finds() -> None:
    parents, x = layers(2), inputs()

    def followed(layer: nn.Linear) -> nn.Module:
        torch.manual_seed(2)
        return nn.Sequential(layer, nn.ReLU(), nn.Linear(5, 2))

    merged = merge(parents, [0.5, 0.5])
    models = [followed(parent) for parent in parents]
    measured = fr.repair(followed(merged), like=models, data=[x], progress=False)
    moments: dict[str, Any] = {"mean": x.mean(0), "covariance": torch.cov(x.T, correction=0)}
    closed = fr.repair_linear(merged, like=parents, **moments)
    torch.testing.assert_close(closed.weight, measured.get_parameter("0.weight"))
    torch.testing.assert_close(closed.bias, measured.get_parameter("0.bias"))


def test_the_variance_is_that_of_the_formula_with_the_correlation() -> None:
    a, b = layers(2)
    t = 0.3
    merged = merge([a, b], [1 - t, t])
    rescaled = fr.repair_linear(merged, like=[a, b], weights=[1 - t, t], method="rescale")
    one, two = (layer.weight.detach() for layer in (a, b))
    stds = one.norm(dim=1), two.norm(dim=1)
    c = (one * two).sum(1) / (stds[0] * stds[1])
    variance = (1 - t) ** 2 * stds[0] ** 2 + t**2 * stds[1] ** 2
    variance += 2 * t * (1 - t) * c * stds[0] * stds[1]
    goal = (1 - t) * stds[0] + t * stds[1]
    expected = merged.weight * (goal / variance.sqrt())[:, None]
    torch.testing.assert_close(rescaled.weight, expected)


def test_without_a_bias_it_is_scaled_alone() -> None:
    parents = layers(2, bias=False)
    merged = merge(parents, [0.5, 0.5])
    repaired = fr.repair_linear(merged, like=parents, mean=torch.ones(7), method="rescale")
    assert repaired.bias is None
    goal = sum(parent.weight.norm(dim=1) for parent in parents) / 2
    torch.testing.assert_close(repaired.weight.norm(dim=1), goal)


def test_constant_outputs_and_the_layer_itself_stay_as_they_are() -> None:
    parents = layers(2)
    merged = merge(parents, [0.5, 0.5])
    merged.weight.data[2] = 0.0
    before = {k: v.clone() for k, v in merged.state_dict().items()}
    repaired = fr.repair_linear(merged, like=parents)
    assert repaired.bias[2] == before["bias"][2]
    assert all(torch.equal(before[k], v) for k, v in merged.state_dict().items())
    assert fr.repair_linear(merged, like=parents, inplace=True) is merged
    assert torch.equal(merged.weight, repaired.weight)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mean": torch.ones(3)}, InvalidArgumentError, r"mean: expected .* of shape \(7,\)"),
        ({"covariance": torch.ones(7)}, InvalidArgumentError, "covariance: expected a tensor"),
        (
            {"covariance": torch.arange(49.0).view(7, 7)},
            InvalidArgumentError,
            "covariance: expected a symmetric matrix",
        ),
        ({"mean": torch.full((7,), torch.nan)}, InvalidArgumentError, "mean: expected finite"),
        ({"like": [nn.Linear(7, 4)]}, ArchitectureMismatchError, r"like\[0\]: expected a layer"),
        ({"layer": nn.ReLU()}, InvalidArgumentError, "layer: expected a torch.nn.Linear, found"),
        ({"like": nn.Linear(7, 5)}, InvalidArgumentError, "like: expected a list of torch.nn"),
    ],
)
def test_wrong_arguments_are_named(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    right: dict[str, Any] = {"layer": layers(1)[0], "like": layers(1)}
    with pytest.raises(error, match=message):
        fr.repair_linear(**{**right, **options})
