"""Exact prices of an optimal assignment of a sparse problem: the Bellman-Ford algorithm.

Row i, which takes column ``p(i)``, likes no other better if ``v_j >= C_ij - C_ip(i) + v_p(i)`` on
all its edges. Prices rise until that holds everywhere; it ends since no cycle gains anything when
the assignment is optimal. Only rows whose price has risen are looked at again.

Every column remembers the edge that raised its price last. A rise is handed down along these edges
at once, before all edges are looked at again, which takes a third of the rounds.

Source: R. Bellman, "On a routing problem" (1958), in rounds over a frontier; the edges that raised
a price last, R. E. Tarjan, "Shortest paths" (1981), who cuts them where we follow them.
"""

from __future__ import annotations

import numpy as np

from ..problem import Indices, Vector

HANDED_DOWN = 4
"""Edges along which a rise is handed down in a round."""


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
        indptr: ``(n + 1,)``, where the edges of each row start, of which there is one at least.
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
    degrees, starts = np.diff(indptr), indptr[:-1]
    parents, steps = np.arange(n), np.full(n, -np.inf)
    most = np.maximum.reduceat(gains - prices[indices], starts)
    rows = np.flatnonzero(most + prices[columns] > tolerance)
    if not len(rows):
        return prices
    for _ in range(rounds):
        # All edges of these rows: count from the start of each.
        lengths = degrees[rows]
        ends = np.cumsum(lengths)
        edges = np.repeat(starts[rows] - ends + lengths, lengths)
        edges += np.arange(ends[-1])
        sources = np.repeat(columns[rows], lengths)
        targets, gain = indices[edges], gains[edges]
        offers = prices[sources] + gain
        rising = np.flatnonzero(offers > (prices + tolerance)[targets])
        if not len(rising):
            return prices
        before = prices.copy()
        targets, offers = targets[rising], offers[rising]
        np.maximum.at(prices, targets, offers)
        highest = offers == prices[targets]
        targets, rising = targets[highest], rising[highest]
        parents[targets], steps[targets] = sources[rising], gain[rising]
        for _ in range(HANDED_DOWN):
            np.maximum(prices, prices[parents] + steps, out=prices)
        rows = owners[prices > before]
    return None
