"""Dead units: rows and columns of one constant, which any solver of ties wastes its time on.

Where a constant row crosses a constant column, both have the same constant. Each such row is given
such a column, and the rest is solved without them. Prices of the rest that leave these pairs as
good as anything else prove that nothing was lost.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..problem import Indices, Optimum
from .scans import Scans

LEAST_SHARE = 1 / 64
"""Fewer dead pairs than that are not worth a copy of the rest."""


class DeadPairs(NamedTuple):
    """As many constant rows as constant columns, and what all their entries are."""

    rows: Indices
    columns: Indices
    constant: float


def dead_pairs(scans: Scans, rows: Indices, columns: Indices) -> DeadPairs | None:
    """The pairs of constant rows and columns to take out, or None where there are but few."""
    count = min(len(rows), len(columns))
    if count <= LEAST_SHARE * scans.n:
        return None
    constant = float(scans.values(rows[:1], columns[:1])[0])
    return DeadPairs(rows[:count], columns[:count], constant)


def live(dead: Indices, n: int) -> Indices:
    """All indices below n but the dead ones."""
    is_live = np.ones(n, dtype=bool)
    is_live[dead] = False
    return np.flatnonzero(is_live)


def with_dead(rest: Optimum, scans: Scans, dead: DeadPairs) -> Optimum | None:
    """The optimum of the whole, from that of the rest; None if its prices do not prove it.

    Live rows must not like a dead column better than what they have, nor dead rows a live one:
    ``constant - v_dead <= min u`` and ``constant - v <= constant - v_dead``.
    """
    n = scans.n
    rows, columns = live(dead.rows, n), live(dead.columns, n)
    taken = np.empty(n, dtype=np.int64)
    taken[rows], taken[dead.rows] = columns[rest.columns], dead.columns
    utilities = scans.values(rows, taken[rows]) - rest.prices[rest.columns]
    cheapest = rest.prices.min()
    if dead.constant - cheapest > utilities.min():
        return None
    prices = np.full(n, cheapest)
    prices[columns] = rest.prices
    return Optimum(taken, prices, rest.gap)
