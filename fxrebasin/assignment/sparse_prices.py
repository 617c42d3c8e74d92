"""Exact prices of an optimal assignment of a sparse problem: the Bellman-Ford algorithm.

Row i, which takes column ``p(i)``, likes no other better if ``v_j >= C_ij - C_ip(i) + v_p(i)`` on
all its edges. Prices rise until that holds everywhere; it ends since no cycle gains anything when
the assignment is optimal. Only rows whose price has risen are looked at again.

Source: R. Bellman, "On a routing problem" (1958); in rounds over a frontier.
"""

from __future__ import annotations

import numpy as np

from .problem import Indices, Vector


def raise_prices(
    indptr: Indices,
    indices: Indices,
    gains: Vector,
    columns: Indices,
    prices: Vector,
    *,
    tolerance: float,
    rounds: int,
) -> Vector | None:
    """Raise prices until each row likes its own column best, up to a tolerance.

    Args:
        indptr: ``(n + 1,)``, where the edges of each row start.
        indices: ``(edges,)``, the column of each edge.
        gains: ``(edges,)``, how much more the edge costs than the one that its row takes.
        columns: ``(n,)``, the column that each row takes.
        prices: ``(n,)``, where to start.
        tolerance: smaller rises are rounding, and would go round in circles.
        rounds: the greatest number of rounds.

    Returns:
        The prices, or None if they still rise after all rounds.
    """
    n = len(columns)
    prices = prices.copy()
    owners = np.empty_like(columns)
    owners[columns] = np.arange(n)
    degrees = np.diff(indptr)
    sources = np.repeat(columns, degrees)
    edges = np.arange(len(indices))
    for _ in range(rounds):
        offers = gains[edges] + prices[sources[edges]]
        targets = indices[edges]
        rising = np.flatnonzero(offers > prices[targets] + tolerance)
        if not len(rising):
            return prices
        targets = targets[rising]
        np.maximum.at(prices, targets, offers[rising])
        changed = np.zeros(n, dtype=bool)
        changed[targets] = True
        rows = owners[changed]
        # All edges of these rows: count from the start of each.
        lengths = degrees[rows]
        ends = np.cumsum(lengths)
        edges = np.arange(ends[-1]) + np.repeat(indptr[rows] - ends + lengths, lengths)
    return None
