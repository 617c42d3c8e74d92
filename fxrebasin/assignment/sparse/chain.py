"""Prices where the costs are nearly an outer product: sorting solves the problem.

Constants on rows and columns, which change no assignment, are taken away first; so squared
distances on a line are outer products too. ``sum_i x_i y_p(i)`` is largest when the k-th largest x
meets the k-th largest y. Such a chain of rows is what search by augmenting paths is worst at. Its
prices rise from one column to the next by what the row between the two would pay:
``(x_k + x_k+1) / 2 (y_k+1 - y_k)``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..problem import Vector
from .scans import Scans

SAMPLED_COLUMNS = 128
LEAST_SHARE = 0.98
"""The mean squared cosine between differences of rows from which on they count as parallel."""


def is_outer_product(centred: NDArray[np.floating]) -> bool:
    """Whether some rows ``(m, n)`` of a matrix, less their means, nearly are up to a constant row.

    Then their differences all have the same direction, or the opposite one.
    """
    some = centred[:, :: max(1, centred.shape[1] // SAMPLED_COLUMNS)].astype(np.float64)
    half = len(some) // 2
    rest = some[: len(some) - half] - some[half:]  # without what all rows have
    products = rest @ rest.T
    squares = np.maximum(products.diagonal(), 1e-60)
    return bool((products**2 / np.multiply.outer(squares, squares)).mean() > LEAST_SHARE)


def chain_prices(scans: Scans) -> Vector:
    """Prices ``(n,)`` of a matrix that is nearly an outer product, up to constants."""
    n = scans.n
    of_columns = scans.times_transposed(np.full(n, 1 / n))
    right = _centred(np.random.default_rng(0).standard_normal(n))
    left = _centred(scans.times(right))
    for _ in range(2):
        right = _centred(scans.times_transposed(left / np.linalg.norm(left)))
        right /= np.linalg.norm(right)
        left = _centred(scans.times(right))
    order = np.argsort(right)
    x, y = np.sort(left), right[order]
    prices = np.zeros(n)
    prices[order[1:]] = np.cumsum((x[1:] + x[:-1]) / 2 * np.diff(y))
    return prices - prices.mean() + of_columns


def _centred(vector: Vector) -> Vector:
    return vector - vector.mean()
