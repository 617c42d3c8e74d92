"""Start prices where the costs are nearly an outer product: sorting solves the problem.

``sum_i x_i y_p(i)`` is largest when the k-th largest x meets the k-th largest y. Such a chain of
rows is what search by augmenting paths is worst at. Its prices rise from one column to the next
by what the row between the two would pay: ``(x_k + x_k+1) / 2 (y_k+1 - y_k)``.
"""

from __future__ import annotations

import numpy as np

from .passes import Passes
from .problem import Vector

LEAST_SHARE = 0.99
"""Of the sum of squares, what the outer product must explain."""


def chain_prices(passes: Passes, rms: float) -> Vector | None:
    """Prices ``(n,)``, or None unless the costs are nearly an outer product."""
    n = passes.n
    right = np.random.default_rng(0).standard_normal(n)
    left = passes.times(right)
    for _ in range(2):
        right = passes.times_transposed(left / np.linalg.norm(left))
        right /= np.linalg.norm(right)
        left = passes.times(right)
    if not np.linalg.norm(left) ** 2 > LEAST_SHARE * (n * rms) ** 2:
        return None
    order = np.argsort(right)
    x, y = np.sort(left), right[order]
    prices = np.zeros(n)
    prices[order[1:]] = np.cumsum((x[1:] + x[:-1]) / 2 * np.diff(y))
    return prices - prices.mean()
