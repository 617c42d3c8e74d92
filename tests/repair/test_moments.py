"""Streaming statistics are those of all the data at once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fxrebasin.repair import moments
from fxrebasin.repair.moments import Moments


def of(values: list[Tensor], axis: int) -> Moments:
    found = Moments(values[0].shape[axis])
    for value in values:
        found.update(value, axis)
    return found


@given(
    sizes=st.lists(st.integers(0, 5), min_size=1, max_size=6).filter(any),
    axis=st.sampled_from([1, -1, -2]),
    offset=st.sampled_from([0.0, 1e3, -1e7]),
    seed=st.integers(0, 99),
)
def test_batches_give_what_all_data_give(
    sizes: list[int], axis: int, offset: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = [torch.randn(n, 3, 4, generator=generator, dtype=torch.float64) for n in sizes]
    found = of([value + offset for value in values], axis)
    rows = torch.cat(values).movedim(axis, 0).flatten(1)
    assert found.count == rows.shape[1]
    torch.testing.assert_close(found.mean, rows.mean(1) + offset, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.std, rows.std(1, correction=0), rtol=1e-6, atol=0)
    if found.count > 1:
        torch.testing.assert_close(found.variance, rows.var(1), rtol=1e-6, atol=0)


def test_nothing_is_lost_where_the_mean_is_large() -> None:
    value = torch.tensor([[1.0], [2.0], [4.0]], dtype=torch.float64) + 1e9
    assert of([value], 1).std.item() == pytest.approx(1.2472191289246, rel=1e-7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_is_widened_first(dtype: torch.dtype) -> None:
    value = torch.full((70_000, 1), 1.0, dtype=dtype)
    value[::2] = 2.0
    found = of([value], 1)
    assert (found.mean.item(), found.std.item()) == (1.5, 0.5)


def test_channels_are_widened_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    value = torch.randn(9, 7)
    whole = of([value], 1)
    monkeypatch.setattr(moments, "AT_ONCE", 20)
    parts = of([value], 1)
    assert torch.equal(whole.mean, parts.mean)
    assert torch.equal(whole.squares, parts.squares)


def test_what_is_constant_but_for_rounding_is_quiet() -> None:
    torch.manual_seed(0)
    value = torch.randn(100, 4)
    value[:, 1] = 3.0
    value[:, 2] = 1e6 + value[:, 2] * 0.1  # as much as float32 rounds there
    value[:, 3] *= 1e-5
    assert of([value], 1).is_quiet.tolist() == [False, True, True, False]


def test_nothing_at_all_has_no_deviation() -> None:
    assert Moments(2).std.tolist() == [0.0, 0.0]
    assert Moments(2).is_quiet.tolist() == [True, True]
