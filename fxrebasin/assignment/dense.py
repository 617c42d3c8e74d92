"""The reference: scipy's solver on whole matrices, and the prices that prove what it found.

Source: D. F. Crouse, "On implementing 2D rectangular assignment algorithms" (2016), as in
``scipy.optimize.linear_sum_assignment``.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from .problem import Assignment, Indices, Vector, value_of

LOOK_FROM = 128
"""Rows from which on it pays to look first whether they like different columns."""
NEGATE_FROM = 128
"""Rows from which on it pays to negate the costs here, in one pass, to double precision."""
ROWS_AT_ONCE = 256
"""Of a matrix that is looked at in double precision."""


def solve_dense(costs: Tensor, warm: Assignment | None = None) -> Assignment:
    """The engine for small problems: exact, without prices, and the same at any start.

    Where all rows like different columns best, there is nothing to solve; half of the rows
    tells most often.
    """
    here = costs.cpu()
    matrices = here.numpy()
    n = costs.shape[2]
    if n < LOOK_FROM:
        found = [dense_columns(matrix) for matrix in matrices]
    else:
        liked = matrices[:, : n // 2].argmax(axis=2).tolist()
        found = [
            dense_columns(matrix) if _repeats(some) else _from_favourites(matrix)
            for matrix, some in zip(matrices, liked, strict=True)
        ]
    at = torch.from_numpy(np.concatenate(found).reshape(len(matrices), n))
    return Assignment(at, value_of(here, at), None, None).to(costs.device)


def _from_favourites(costs: NDArray[np.floating]) -> Indices:
    """The column that each row likes best, if no two like the same; else what a solver finds."""
    liked = costs.argmax(axis=1)
    return dense_columns(costs) if _repeats(liked.tolist()) else liked


def _repeats(values: list[int]) -> bool:
    return len(set(values)) < len(values)


def dense_columns(costs: NDArray[np.floating], prices: Vector | None = None) -> Indices:
    """The column of each row; good prices leave less to do."""
    if prices is None and len(costs) < NEGATE_FROM:
        return linear_sum_assignment(costs, maximize=True)[1]
    offsets = 0.0 if prices is None else prices
    return linear_sum_assignment(np.subtract(offsets, costs, dtype=np.float64))[1]


def recover_prices(
    costs: NDArray[np.floating], columns: Indices, start: Vector | None = None
) -> tuple[Vector, float]:
    """Prices at which every row likes best what an optimal assignment gives it, and the gap.

    The algorithm of Bellman and Ford, all columns at once: a row asks every column to cost at
    least as much as makes its own one as good; only rows whose price has risen ask again.
    """
    n = len(costs)
    everyone = np.arange(n)
    owners = np.argsort(columns)
    paid = costs[everyone, columns].astype(np.float64)
    prices = np.zeros(n) if start is None else start.copy()
    rounding = 4 * np.finfo(np.float64).eps * max(np.abs(paid).max(), np.abs(prices).max())
    rows = everyone
    for _ in range(n):
        asked = (costs[rows] + (prices[columns[rows]] - paid[rows])[:, None]).max(axis=0)
        rising = asked > prices + rounding
        if not rising.any():
            break
        prices[rising] = asked[rising]
        rows = owners[rising]
    return prices, duality_gap(costs, columns, prices)


def duality_gap(costs: NDArray[np.floating], columns: Indices, prices: Vector) -> float:
    """What all rows together would rather have than what they take, in float64."""
    rows = np.arange(len(costs))
    utilities = costs[rows, columns].astype(np.float64) - prices[columns]
    begins = range(0, len(costs), ROWS_AT_ONCE)
    parts = (np.subtract(costs[k : k + ROWS_AT_ONCE], prices, dtype=np.float64) for k in begins)
    most = np.concatenate([part.max(axis=1) for part in parts])
    return float((most - utilities).sum())


def with_prices(result: Assignment, costs: Tensor) -> Assignment:
    """A solution with the prices that certify it."""
    recovered = [
        recover_prices(matrix, columns)
        for matrix, columns in zip(costs.cpu().numpy(), result.columns.cpu().numpy(), strict=True)
    ]
    prices, gaps = zip(*recovered, strict=True)
    return Assignment(
        result.columns,
        result.value,
        torch.from_numpy(np.stack(prices)).to(costs.device),
        torch.tensor(gaps, dtype=torch.float64, device=costs.device),
    )
