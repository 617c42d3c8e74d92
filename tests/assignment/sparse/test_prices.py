"""Prices that are raised until they prove an assignment."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from benchmarks.assignment.kinds import matrix
from fxrebasin.assignment.problem import Indices, Vector
from fxrebasin.assignment.sparse.prices import raise_prices

torch.set_num_threads(1)


def edges_of(costs: np.ndarray) -> tuple[Indices, Indices, Vector]:
    n = len(costs)
    return np.arange(n + 1) * n, np.tile(np.arange(n), n), costs.ravel()


def test_prices_rise_until_rows_are_content() -> None:
    costs = matrix("spec", 60).astype(np.float64)
    _, columns = linear_sum_assignment(costs, maximize=True)
    own = costs[np.arange(60), columns]
    indptr, indices, _ = edges_of(costs)
    gains = (costs - own[:, None]).ravel()
    prices = raise_prices(indptr, indices, gains, columns, np.zeros(60), tolerance=1e-12, rounds=60)
    assert prices is not None
    net = costs - prices
    assert (net.max(axis=1) - net[np.arange(60), columns]).max() < 1e-10


def test_prices_of_what_is_not_optimal_rise_for_ever() -> None:
    costs = np.eye(3)
    columns = np.array([1, 2, 0])
    indptr, indices, gains = edges_of(costs)
    start = np.zeros(3)
    assert raise_prices(indptr, indices, gains, columns, start, tolerance=0, rounds=50) is None
