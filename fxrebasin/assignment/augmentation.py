"""The last few free rows, one by one: shortest augmenting paths through whole rows.

Where each row but a few likes a column of its own best, there is nothing to search for: from each
free row, Dijkstra's algorithm over the reduced costs ``u_i + v_j - C_ij`` finds the nearest free
column, and rows along the path move on by one. Prices stay feasible all the time.

Source: R. Jonker and A. Volgenant, "A shortest augmenting path algorithm for dense and sparse
linear assignment problems" (1987).
"""

from __future__ import annotations

import numpy as np

from .auction import FREE
from .passes import Passes
from .problem import Indices, Vector


def augment(
    passes: Passes, utilities: Vector, prices: Vector, columns: Indices, most_steps: int
) -> tuple[Vector, Indices] | None:
    """Give every free row a column; None if that takes more than ``most_steps`` rows to read.

    Args:
        passes: the matrix.
        utilities: ``(n,)``, what each row has left at its best column.
        prices: ``(n,)``, of the columns.
        columns: ``(n,)``, a column for each row, one that it likes best, or -1.
        most_steps: how many rows to read at most.

    Returns:
        The prices and the columns.
    """
    n = passes.n
    utilities, prices, columns = utilities.copy(), prices.copy(), columns.copy()
    owners = np.full(n, FREE)
    matched = np.flatnonzero(columns != FREE)
    owners[columns[matched]] = matched
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
            reduced = passes.take(np.array([row]))[0].astype(np.float64)
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
