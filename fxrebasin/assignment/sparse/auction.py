"""Start prices by auction: rows without a column bid for the one they like best.

Every free row bids for its best column as much more than the present price as makes the second
best equally good, and a little step. Columns go to the highest bid; who had them is free again.
Most rows find a column within a few rounds; the last ones take long, and are left to others.

Source: D. P. Bertsekas, "The auction algorithm: a distributed relaxation method for the assignment
problem" (1988), in the Jacobi form, where all bid at the same time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from ..problem import Indices, Vector
from .scans import Best, Scans

FREE = -1
MOST_LEFT = 500
"""Rows left over that are worth an assignment of their own."""


class Bidding(NamedTuple):
    """When an auction ends, and how boldly rows bid."""

    step: float
    """What a bid adds to be the winning one; relative to the scale of the costs."""
    rounds: int
    """The greatest number of rounds."""
    enough: float
    """The share of rows that may stay free."""


def auction(
    scans: Scans, prices: Vector, bids: Best, scale: float, bidding: Bidding
) -> tuple[Vector, Indices]:
    """Bid until few enough rows are free, or for so many rounds.

    Args:
        scans: the matrix.
        prices: the prices to start from, ``(n,)``.
        bids: the best columns of all rows at these prices.
        scale: the spread of the costs.
        bidding: how to bid, and for how long.

    Returns:
        The prices, and the column of each row, or -1.
    """
    n = scans.n
    prices = prices.copy()
    owners = np.full(n, FREE)
    columns = np.full(n, FREE)
    rows = np.arange(n)
    for k in range(bidding.rounds):
        if k:
            bids = scans.best(prices, rows)
        serve(rows, bids, bidding.step * scale, prices, owners, columns)
        rows = np.flatnonzero(columns == FREE)
        if len(rows) <= bidding.enough * n:
            break
    return prices, columns


def serve(
    rows: Indices, bids: Best, step: float, prices: Vector, owners: Indices, columns: Indices
) -> None:
    """One round: each column that is bid for goes to the highest bid."""
    raises = bids.first - bids.second + step
    order = np.argsort(raises, kind="stable")
    liked = bids.columns[order]
    highest = np.empty(len(prices), dtype=np.int64)
    highest[liked] = order  # of several bids, the last and highest stays
    winning = order[highest[liked] == order]
    wanted, winners = bids.columns[winning], rows[winning]
    evicted = owners[wanted]
    columns[evicted[evicted != FREE]] = FREE
    owners[wanted] = winners
    columns[winners] = wanted
    prices[wanted] += raises[winning]


def completed(scans: Scans, prices: Vector, columns: Indices) -> Indices:
    """A permutation: free rows share the free columns as well as they can among themselves."""
    rows = np.flatnonzero(columns == FREE)
    taken = np.zeros(len(columns), dtype=bool)
    taken[columns[columns != FREE]] = True
    left = np.flatnonzero(~taken)
    if 0 < len(rows) <= MOST_LEFT:
        costs = scans.values(np.repeat(rows, len(left)), np.tile(left, len(rows)))
        net = costs.reshape(len(rows), len(left)) - prices[left]
        left = left[linear_sum_assignment(net, maximize=True)[1]]
    full = columns.copy()
    full[rows] = left
    return full
