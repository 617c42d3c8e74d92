"""Rows or columns that repeat a few are solved kind by kind, to the same optimum."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from fxrebasin.assignment.sparse.device_scans import DeviceScans
from fxrebasin.assignment.sparse.duplicates import kinds, solve_repeated, transport
from fxrebasin.assignment.sparse.scans import HostScans

torch.set_num_threads(1)
N = 64


def repeated(seed: int, count: int, *, ties: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    few = rng.integers(-2, 3, (count, N)) if ties else rng.standard_normal((count, N))
    return few.astype(np.float32)[rng.integers(0, count, N)]


def value(costs: np.ndarray, columns: np.ndarray) -> float:
    return float(costs.astype(np.float64)[np.arange(len(costs)), columns].sum())


def optimum(costs: np.ndarray) -> float:
    return value(costs, linear_sum_assignment(costs, maximize=True)[1])


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 4), st.booleans(), st.booleans())
def test_the_optimum_and_its_prices(
    seed: int, count: int, ties: bool, columns_repeat: bool
) -> None:
    costs = repeated(seed, count, ties=ties)
    costs = np.ascontiguousarray(costs.T) if columns_repeat else costs
    found = solve_repeated(HostScans(costs, 1))
    assert found is not None
    assert sorted(found.columns) == list(range(N))
    assert value(costs, found.columns) == pytest.approx(optimum(costs), abs=1e-9)
    dual = (costs - found.prices).max(axis=1).sum() + found.prices.sum()
    assert dual == pytest.approx(optimum(costs), abs=1e-9)
    assert found.gap == pytest.approx(0, abs=1e-9)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.integers(1, 9))
def test_kinds_with_any_number_of_columns_each(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    costs = rng.standard_normal((count, N))
    supply = rng.multinomial(N, rng.dirichlet(np.full(count, 0.3)))
    owner, potentials = transport(costs, supply)
    assert np.bincount(owner, minlength=count).tolist() == supply.tolist()
    most = (costs - potentials[:, None]).max(axis=0)
    assert costs[owner, np.arange(N)] - potentials[owner] == pytest.approx(most, abs=1e-9)


def test_on_scans_of_a_device() -> None:
    costs = repeated(0, 3)
    found = solve_repeated(DeviceScans(torch.from_numpy(costs)))
    assert found is not None
    assert value(costs, found.columns) == pytest.approx(optimum(costs), abs=1e-9)


def test_rows_that_repeat_too_seldom_are_left_alone() -> None:
    assert solve_repeated(HostScans(repeated(0, 20), 1)) is None
    assert solve_repeated(HostScans(repeated(0, N), 1)) is None


def test_rows_that_agree_in_some_columns_are_told_apart() -> None:
    """Of small integers, two of these agree in the four columns that probes once were."""
    costs = repeated(2798, 3, ties=True)
    found = solve_repeated(HostScans(costs, 1))
    assert found is not None
    assert sorted(found.columns) == list(range(N))
    assert value(costs, found.columns) == optimum(costs)


def test_rows_that_are_nearly_equal_are_of_no_kind() -> None:
    costs = repeated(0, 2)
    assert kinds(costs) is not None
    costs[17, 5] += 1  # a column that is not among the probes
    assert kinds(costs) is None
    assert solve_repeated(HostScans(costs, 1)) is None
