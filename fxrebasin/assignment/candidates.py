"""The few entries of a matrix that an optimal assignment is likely to be made of.

At good prices, an optimal assignment takes entries of small reduced cost ``u_i + v_j - C_ij``.
What is small differs by row and column: units with large weights have large reduced costs. Each
entry is therefore measured by the mean reduced costs of its row and of its column.
"""

from __future__ import annotations

import numpy as np

from .passes import Passes
from .problem import Indices, Vector

SAMPLED_ROWS = 32
LEAST_MEAN = 0.05


def candidates(
    passes: Passes,
    utilities: Vector,
    prices: Vector,
    required: Indices,
    *,
    per_row: int,
) -> Indices | None:
    """Sorted keys ``i n + j`` of about ``per_row n`` entries, among them those of ``required``.

    None if the reduced costs are so equal that no threshold leaves few of them.
    """
    n = passes.n
    every = np.full(n, 1 / n)
    rows = utilities + prices.mean() - passes.times(every)
    columns = utilities.mean() + prices - passes.times_transposed(every)
    mean = rows.mean()
    if not mean > 0:
        return None
    rows, columns = (np.maximum(x / mean, LEAST_MEAN) for x in (rows, columns))
    sample = np.unique(np.linspace(0, n - 1, SAMPLED_ROWS).astype(np.int64))
    reduced = utilities[sample, None] + prices - passes.take(sample)
    reduced /= rows[sample, None] + columns
    wanted = min(per_row * len(sample), reduced.size - 1)
    threshold = np.partition(reduced, wanted, axis=None)[wanted]
    keys = passes.above(
        prices - threshold * columns, utilities - threshold * rows, limit=4 * per_row * n
    )
    return None if keys is None else with_keys(keys, np.arange(n) * n + required)


def with_keys(keys: Indices, more: Indices) -> Indices:
    """Sorted keys, and more that are sorted, without repetition."""
    places = np.searchsorted(keys, more)
    known = keys[np.minimum(places, len(keys) - 1)] == more
    return np.insert(keys, places[~known], more[~known])
