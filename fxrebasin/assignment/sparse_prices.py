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
    costs: Vector,
    columns: Indices,
    paid: Vector,
    prices: Vector,
    *,
    tolerance: float,
    rounds: int,
) -> Vector | None:
    """Raise prices until each row likes its own column best, up to a tolerance.

    Args:
        indptr: ``(n + 1,)``, where the edges of each row start.
        indices: ``(edges,)``, the column of each edge.
        costs: ``(edges,)``, the cost of each edge.
        columns: ``(n,)``, the column that each row takes.
        paid: ``(n,)``, the costs of these.
        prices: ``(n,)``, where to start.
        tolerance: smaller rises are rounding, and would go round in circles.
        rounds: the greatest number of rounds.

    Returns:
        The prices, or None if they still rise after all rounds.
    """
    prices = prices.copy()
    owners = np.empty_like(columns)
    owners[columns] = np.arange(len(columns))
    rows = np.arange(len(columns))
    for _ in range(rounds):
        lengths = indptr[rows + 1] - indptr[rows]
        ends = np.cumsum(lengths)
        edges = np.arange(ends[-1]) + np.repeat(indptr[rows] - ends + lengths, lengths)
        offers = costs[edges] + np.repeat(prices[columns[rows]] - paid[rows], lengths)
        targets = indices[edges]
        rising = offers > prices[targets] + tolerance
        if not rising.any():
            return prices
        offers, targets = offers[rising], targets[rising]
        order = np.argsort(offers)
        prices[targets[order]] = offers[order]  # of several offers, the last and highest stays
        changed = np.zeros(len(columns), dtype=bool)
        changed[targets] = True
        rows = owners[changed]
    return None
