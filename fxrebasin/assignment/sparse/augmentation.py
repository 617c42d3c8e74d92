"""The last few free rows, one by one: shortest augmenting paths through whole rows.

Where each row but a few likes a column of its own best, there is nothing to search for. Free rows
first bid as in an auction, but no more than makes their second best column equally good, so that
all rows keep what they like best. From each row that is left, Dijkstra's algorithm over the reduced
costs ``u_i + v_j - C_ij`` finds the nearest free column, and rows along the path move on by one.

Source: R. Jonker and A. Volgenant, "A shortest augmenting path algorithm for dense and sparse
linear assignment problems" (1987).
"""

from __future__ import annotations

import numpy as np

from ..problem import Indices, Vector
from .auction import FREE, serve
from .scans import Best, Scans

ROUNDS = 20
ENOUGH = 1 / 256
"""The share of rows that are not worth another round."""


def augment(
    scans: Scans, utilities: Vector, prices: Vector, columns: Indices, most_steps: int
) -> tuple[Vector, Indices] | None:
    """Give every free row a column; None if that takes more than ``most_steps`` rows to read.

    Args:
        scans: the matrix.
        utilities: ``(n,)``, what each row has left at its best column.
        prices: ``(n,)``, of the columns.
        columns: ``(n,)``, a column for each row, one that it likes best, or -1.
        most_steps: how many rows to read at most.

    Returns:
        The prices and the columns.
    """
    n = scans.n
    utilities, prices, columns = utilities.copy(), prices.copy(), columns.copy()
    owners = np.full(n, FREE)
    matched = np.flatnonzero(columns != FREE)
    owners[columns[matched]] = matched
    _bid(scans, utilities, prices, owners, columns)
    for root in np.flatnonzero(columns == FREE):
        distance = np.full(n, np.inf)
        ahead = np.full(n, np.inf)  # the distance, or infinity once a column is settled
        previous = np.empty(n, dtype=np.int64)
        settled: list[int] = []
        row, length = int(root), 0.0
        while True:
            if most_steps == 0:
                return None
            most_steps -= 1
            reduced = scans.take(np.array([row]))[0].astype(np.float64)
            np.subtract(prices, reduced, out=reduced)
            reduced += utilities[row] + length
            closer = reduced < distance
            closer[settled] = False
            distance[closer] = ahead[closer] = reduced[closer]
            previous[closer] = row
            column = int(ahead.argmin())
            length = float(distance[column])
            if owners[column] == FREE:
                break
            settled.append(column)
            ahead[column] = np.inf
            row = int(owners[column])
        _reprice(settled, distance, length, int(root), owners, utilities, prices)
        _shift(column, int(root), previous, owners, columns)
    return prices, columns


def _bid(
    scans: Scans, utilities: Vector, prices: Vector, owners: Indices, columns: Indices
) -> None:
    """Free rows bid, in float64, for some rounds."""
    for k in range(ROUNDS + 1):
        rows = np.flatnonzero(columns == FREE)
        net = scans.take(rows) - prices
        liked = net.argmax(axis=1)
        each = np.arange(len(rows))
        utilities[rows] = first = net[each, liked]
        if k == ROUNDS or len(rows) <= ENOUGH * len(prices):
            return
        net[each, liked] = -np.inf
        utilities[rows] = second = net.max(axis=1)
        serve(rows, Best(liked, first, second), 0.0, prices, owners, columns)


def _reprice(
    settled: list[int],
    distance: Vector,
    length: float,
    root: int,
    owners: Indices,
    utilities: Vector,
    prices: Vector,
) -> None:
    """Raise the prices of settled columns until the whole path costs nothing."""
    rises = length - distance[settled]
    prices[settled] += rises
    utilities[owners[settled]] -= rises
    utilities[root] -= length


def _shift(column: int, root: int, previous: Indices, owners: Indices, columns: Indices) -> None:
    """Every row on the path takes the next column."""
    while True:
        row = int(previous[column])
        owners[column] = row
        columns[row], column = column, int(columns[row])
        if row == root:
            return
