"""The linear assignment problem: one interface for every solver.

Maximise the sum of ``cost[k, result[k]]`` over permutations ``result``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment


def assign(costs: NDArray[np.floating]) -> NDArray[np.int64]:
    """Solve a batch of linear assignment problems exactly.

    Args:
        costs: gains to maximise, shape ``(..., n, n)``; finite.

    Returns:
        The permutation of each problem, shape ``(..., n)``: row ``k`` takes column ``result[k]``.

    Source: D. F. Crouse, "On implementing 2D rectangular assignment algorithms" (2016), as in
    ``scipy.optimize.linear_sum_assignment``.

    >>> assign(np.array([[1.0, 2.0], [2.0, 1.0]])).tolist()
    [1, 0]
    """
    *batch, n, _ = costs.shape
    flat = costs.reshape(-1, n, n)
    result = np.empty((len(flat), n), dtype=np.int64)
    for k, cost in enumerate(flat):
        result[k] = linear_sum_assignment(cost, maximize=True)[1]
    return result.reshape(*batch, n)
