"""The few entries of a matrix that an optimal assignment is likely to be made of.

At good prices, an optimal assignment takes entries of small reduced cost ``u_i + v_j - C_ij``.
What is small differs by row and column: units with large weights have large reduced costs. Each
entry is therefore measured by the mean reduced costs of its row and of its column.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..problem import Indices, Vector, evenly
from .scans import Scans

ROUNDING = 4e-7
"""What single precision may lose in a reduced cost, relative to utilities and prices."""
LEAST_SAMPLED, MOST_SAMPLED = 16, 64
LEAST_MEAN = 0.05


class Candidates(NamedTuple):
    """Some entries of a matrix C, and what bounds all others."""

    keys: Indices
    """``i n + j``, sorted."""
    offsets: Vector
    bounds: Vector
    """All other entries have ``C_ij - offsets_j < bounds_i``."""

    def content(self, utilities: Vector, prices: Vector) -> NDArray[np.bool_]:
        """The rows that like no entry but candidates better than their ``utilities``."""
        most = self.bounds + (self.offsets - prices).max()
        scale = np.abs(utilities) + np.abs(self.bounds) + np.abs(self.offsets).max()
        return most + ROUNDING * (scale + np.abs(prices).max()) <= utilities


def candidates(
    scans: Scans,
    utilities: Vector,
    prices: Vector,
    required: Indices,
    *,
    per_row: int,
) -> Candidates | None:
    """About ``per_row n`` entries, among them those of ``required``.

    None if the reduced costs are so equal that no threshold leaves few of them.
    """
    n = scans.n
    every = np.full(n, 1 / n)
    rows = utilities + prices.mean() - scans.times(every)
    columns = utilities.mean() + prices - scans.times_transposed(every)
    mean = rows.mean()
    if not mean > 0:
        return None
    rows, columns = np.maximum(rows / mean, LEAST_MEAN), np.maximum(columns / mean, LEAST_MEAN)
    sample = evenly(n, min(max(LEAST_SAMPLED, n // 32), MOST_SAMPLED))
    reduced = np.add.outer(utilities[sample], prices).astype(np.float32)
    reduced -= scans.take(sample)
    reduced /= np.add.outer(rows[sample], columns)
    wanted = min(per_row * len(sample), reduced.size - 1)
    threshold = np.partition(reduced, wanted, axis=None)[wanted]
    offsets, bounds = prices - threshold * columns, utilities - threshold * rows
    keys = scans.above(offsets, bounds, limit=4 * per_row * n, also=required)
    return None if keys is None else Candidates(keys, offsets, bounds)


def with_keys(keys: Indices, more: Indices) -> Indices:
    """Sorted keys, and more that are sorted, without repetition."""
    places = np.searchsorted(keys, more)
    known = keys[np.minimum(places, len(keys) - 1)] == more
    return np.insert(keys, places[~known], more[~known])
