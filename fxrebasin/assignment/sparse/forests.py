"""Exact assignment on a sparse matrix, by forests of shortest augmenting paths.

Reduced costs ``u_i + v_j - C_ij`` are never negative, and zero on what rows take. Free rows first
bid for the column that they like best, as much as makes the next one equally good, for some rounds.
Then Dijkstra's algorithm finds how far every column is from the nearest of all free rows; every one
of these grows a tree of its own, so that the paths to the nearest free column of each tree have no
row and no column in common. Rows along all of them move on by one, and distances become prices, at
which these paths cost nothing. A few such phases leave no row free.

Bids alone may never end where many rows like the same columns nearly equally well, as those of
units that hardly react do: every bid then raises a price by next to nothing, or, below rounding, by
nothing at all. That is where ``scipy.sparse.csgraph.min_weight_full_bipartite_matching``, which
bids until no row wants to, goes round in circles.

Source: R. Jonker and A. Volgenant, "A shortest augmenting path algorithm for dense and sparse
linear assignment problems" (1987), for the bids; J. Edmonds and R. Karp, "Theoretical improvements
in algorithmic efficiency for network flow problems" (1972), for distances that become prices;
J. Hopcroft and R. Karp, "An n^5/2 algorithm for maximum matchings in bipartite graphs" (1973), for
disjoint paths in phases.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from ..problem import Indices, Vector
from .auction import FREE, serve
from .scans import Best

ROUNDS = 12
"""Of bids."""
ENOUGH = 1 / 64
"""The share of rows that are not worth another round."""


def solve_sparse_matrix(
    indptr: Indices, indices: Indices, costs: Vector, columns: Indices, prices: Vector
) -> Indices:
    """The assignment with the greatest sum: the column of each row.

    Args:
        indptr: ``(n + 1,)``, where the entries of each row start.
        indices: ``(entries,)``, their columns.
        costs: ``(entries,)``, in float64.
        columns: ``(n,)``, an assignment that has only such entries: the better it is at these
            prices, the less is left to do.
        prices: ``(n,)``, to start from.
    """
    n = len(columns)
    rows = np.repeat(np.arange(n), np.diff(indptr))
    prices = prices.copy()
    utilities = np.maximum.reduceat(costs - prices[indices], indptr[:-1])
    liked = costs - prices[indices] >= utilities[rows]
    taken, owners = _disjoint(rows[liked], indices[liked], columns)
    for _ in range(ROUNDS):
        free = np.flatnonzero(taken == FREE)
        if len(free) <= ENOUGH * n:
            break
        bids = _best(free, indptr, indices, costs, prices)
        serve(free, bids, 0.0, prices, owners, taken)
        utilities[free] = np.where(taken[free] == FREE, bids.first, bids.second)

    # From a row, a step leads to the owner of a column that it might take, or, beyond all rows, to
    # the column itself, if it is free.
    ends = np.concatenate([indptr, np.full(n, indptr[-1])])
    graph = csr_array((costs, indices, ends), shape=(2 * n, 2 * n))
    while len(free := np.flatnonzero(taken == FREE)):
        owned = owners[indices]
        graph.indices = np.where(owned == FREE, n + indices, owned).astype(np.int32)
        graph.data = np.maximum(utilities[rows] + prices[indices] - costs, 0.0)  # but for rounding
        distance, before, roots = dijkstra(
            graph, indices=free, min_only=True, return_predecessors=True
        )
        reached = np.flatnonzero((owners == FREE) & np.isfinite(distance[n:]))
        reached = reached[np.argsort(distance[n + reached], kind="stable")]
        _, nearest = np.unique(roots[n + reached], return_index=True)
        reached = reached[nearest]
        distance = np.minimum(distance, distance[n + reached].max())
        utilities += distance[:n]
        prices -= np.where(owners == FREE, distance[n:], distance[owners])
        for column in reached.tolist():
            _shift(column, int(before[n + column]), before, taken, owners)
    return taken


def _disjoint(rows: Indices, columns: Indices, known: Indices) -> tuple[Indices, Indices]:
    """Of some entries, those that are known, and then what shares no row and no column with others:
    the column of each row and the row of each column, or -1."""
    taken, owners = np.full(len(known), FREE), np.full(len(known), FREE)
    is_known = columns == known[rows]
    taken[rows[is_known]], owners[columns[is_known]] = columns[is_known], rows[is_known]
    left = (taken[rows] == FREE) & (owners[columns] == FREE)
    rows, first = np.unique(rows[left], return_index=True)
    columns, first = np.unique(columns[left][first], return_index=True)
    taken[rows[first]], owners[columns] = columns, rows[first]
    return taken, owners


def _best(rows: Indices, indptr: Indices, indices: Indices, costs: Vector, prices: Vector) -> Best:
    """The two best columns of some rows; for one that has a single entry, the worst of all is the
    second."""
    lengths = indptr[rows + 1] - indptr[rows]
    ends = np.cumsum(lengths)
    starts = ends - lengths
    entries = np.repeat(indptr[rows] - starts, lengths) + np.arange(ends[-1])
    net = costs[entries] - prices[indices[entries]]
    first = np.maximum.reduceat(net, starts)
    highest = np.flatnonzero(net == np.repeat(first, lengths))
    best = highest[np.searchsorted(highest, starts)]
    net[best] = net.min()
    return Best(indices[entries[best]], first, np.maximum.reduceat(net, starts))


def _shift(column: int, row: int, before: Indices, taken: Indices, owners: Indices) -> None:
    """Every row on the path to a free column takes the next column."""
    while True:
        left = int(taken[row])
        taken[row], owners[column] = column, row
        if left == FREE:
            return
        column, row = left, int(before[row])
