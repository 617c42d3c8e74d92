"""What scale and shift bring measured statistics to their goals."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fxrebasin.repair.correcting import METHODS, Goal, goal_of, is_alive
from fxrebasin.repair.moments import Moments


def of(values: Tensor) -> Moments:
    moments = Moments(values.shape[1])
    moments.update(values, axis=1)
    return moments


def samples(seed: int) -> Tensor:
    torch.manual_seed(seed)
    return torch.randn(50, 4, dtype=torch.float64) * torch.rand(4) + torch.randn(4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shifts", [True, False])
def test_corrected_values_have_the_statistics_that_the_method_promises(
    method: str, shifts: bool
) -> None:
    goal = goal_of([of(samples(0)), of(samples(1))], [0.3, 0.7])
    value = samples(2)
    scale, shift = METHODS[method](goal, of(value), shifts=shifts)
    corrected = of(value * scale + shift)
    expected_std = of(value).std if method == "reshift" else goal.std
    if shifts or method != "repair":
        torch.testing.assert_close(corrected.std, expected_std)
    if shifts and method != "rescale":
        torch.testing.assert_close(corrected.mean, goal.mean)
    else:
        assert not shift.any()


@given(mean=st.floats(-5, 5), std=st.floats(0.1, 3), aim=st.floats(-5, 5), spread=st.floats(0.1, 3))
def test_where_nothing_takes_a_shift_no_other_scale_comes_nearer_to_both_goals(
    mean: float, std: float, aim: float, spread: float
) -> None:
    values = mean + std * torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    aims = (torch.tensor([x], dtype=torch.float64) for x in (aim, spread))
    goal = Goal(next(aims), next(aims), torch.tensor([False]))
    scale, shift = METHODS["repair"](goal, of(values), shifts=False)
    assert scale.item() > 0 and shift.item() == 0
    if aim * mean < 0:  # a positive scale does not turn a mean around
        aim = 0.0

    def distance(s: float) -> float:
        return (s * mean - aim) ** 2 + (s * std - spread) ** 2

    for other in (0.5, 0.99, 1.01, 2):
        assert distance(scale.item()) <= distance(scale.item() * other) + 1e-12


def test_goals_are_means_of_deviations_and_not_of_variances() -> None:
    goal = goal_of([of(torch.tensor([[0.0], [2.0]])), of(torch.tensor([[0.0], [6.0]]))], [0.5, 0.5])
    assert (goal.mean.item(), goal.std.item()) == (2.0, 2.0)


@pytest.mark.parametrize("method", METHODS)
def test_channels_without_deviation_or_numbers_are_left_alone(method: str) -> None:
    value = samples(2)
    value[:, 0] = 5.0
    value[3, 1] = torch.inf
    ones = torch.ones(4, dtype=torch.float64)
    goal = Goal(ones, ones.clone(), torch.tensor([False, False, True, False]))
    measured = of(value)
    assert is_alive(goal, measured).tolist() == [False, False, False, True]
    scale, shift = METHODS[method](goal, measured, shifts=True)
    assert scale[:3].tolist() == [1.0, 1.0, 1.0]
    assert shift[:3].tolist() == [0.0, 0.0, 0.0]
