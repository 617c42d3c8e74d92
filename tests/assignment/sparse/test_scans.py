"""Scans of a matrix, on the host and on a device: what they say of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from benchmarks.assignment.kinds import matrix
from fxrebasin.assignment.sparse import scans
from fxrebasin.assignment.sparse.device_scans import DeviceScans
from fxrebasin.assignment.sparse.scans import HostScans, Scans

torch.set_num_threads(1)

N = 37


def in_blocks(costs: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> HostScans:
    """Scans in three threads and in blocks of five rows."""
    monkeypatch.setattr(scans, "ENTRIES_PER_THREAD", 1)
    passes = HostScans(costs, threads=3)
    passes.block = 5
    return passes


def on_device(costs: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> DeviceScans:
    passes = DeviceScans(torch.from_numpy(costs))
    passes.block = 5
    return passes


@pytest.mark.parametrize("make", [in_blocks, on_device])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scans_say_what_the_matrix_says(
    make: Callable[[np.ndarray, pytest.MonkeyPatch], Scans],
    dtype: type[np.floating],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    costs = matrix("lowr", N).astype(dtype) / 3  # in float64, no value of float32
    passes = make(costs, monkeypatch)
    exact = costs.astype(np.float64)
    prices = matrix("gauss", N)[0].astype(np.float64)
    rows = np.array([30, 2, 2, 17, 5, 6, 7])
    net = exact - prices
    np.testing.assert_array_equal(passes.matrix(), costs)
    part = passes.part(rows, rows[:3])
    np.testing.assert_array_equal(part.matrix(), costs[rows][:, rows[:3]])
    assert passes.root_mean_square() == pytest.approx(np.sqrt((exact**2).mean()), rel=1e-5)
    np.testing.assert_allclose(passes.times(prices), exact @ prices, rtol=1e-4)
    np.testing.assert_allclose(passes.times_transposed(prices), prices @ exact, rtol=1e-4)
    np.testing.assert_array_equal(passes.take(rows), costs[rows])
    np.testing.assert_array_equal(passes.values(rows, rows[::-1]), exact[rows, rows[::-1]])
    for some in (None, rows):
        looked_at = net if some is None else net[some]
        best = passes.best(prices, some)
        np.testing.assert_array_equal(best.columns, looked_at.argmax(axis=1))
        np.testing.assert_allclose(best.first, np.sort(looked_at)[:, -1], rtol=1e-5)
        np.testing.assert_allclose(best.second, np.sort(looked_at)[:, -2], rtol=1e-5)
    utilities, slack = passes.transform(prices)
    np.testing.assert_allclose(utilities, net.max(axis=1), rtol=1e-5)
    np.testing.assert_allclose(slack, (net.max(axis=1, keepdims=True) - net).min(axis=0), atol=1e-5)
    bounds = utilities - 5
    keys = np.flatnonzero(net >= bounds[:, None])
    np.testing.assert_array_equal(passes.above(prices, bounds, len(keys)), keys)
    assert passes.above(prices, bounds, len(keys) - 1) is None
    some = np.unique(rows)
    keys = keys[np.isin(keys // N, some)]
    np.testing.assert_array_equal(passes.above(prices, bounds[some], len(keys), some), keys)
    assert passes.is_exact == (costs.dtype == np.float32)
    scores = np.exp(net[rows] / 3)
    demand = (scores / scores.sum(axis=1, keepdims=True)).sum(axis=0)
    np.testing.assert_allclose(passes.demand(rows, prices, 3.0), demand, rtol=0.1, atol=1e-9)


@pytest.mark.parametrize("make", [in_blocks, on_device])
def test_constant_rows_and_columns(
    make: Callable[[np.ndarray, pytest.MonkeyPatch], Scans], monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = matrix("gauss", N)
    costs[[4, 20]] = 2
    costs[:, 7] = 2
    costs[5, :-1] = 2  # but for one entry
    rows, columns = make(costs, monkeypatch).constant()
    assert rows.tolist() == [4, 20] and columns.tolist() == [7]
