"""Units that repeat each other: a few kinds of rows, each to be given several columns.

Every column begins with the kind that gains most by it. Columns then pass, along the cheapest
paths through the kinds, from kinds that have too many to kinds that have too few, which leaves the
assignment the best one for the numbers that the kinds have at the time. What remains of a kind in
the end, no cheaper path could take away: the lengths of the paths are its price.

Source: successive shortest paths, R. K. Ahuja, T. L. Magnanti and J. B. Orlin, "Network Flows"
(1993), section 9.7.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..dense import ROWS_AT_ONCE, duality_gap
from ..problem import Indices, Optimum, Vector, evenly
from .scans import Scans

LEAST_REPEATS = 16
"""On average; with fewer, the kinds are too many for paths through them to be cheap."""
SAMPLED_EACH = 8
"""Of so many rows, one is looked at first: enough to see more kinds than are few."""
PROBES = 16
"""Columns of which rows are sorted by a random mixture, before they are compared as a whole."""
ROUNDING = 1e-12
"""What counts as no difference in the length of a path, relative to the largest cost."""


class Kinds(NamedTuple):
    """The rows that are the first of their kind, and the kind of every row."""

    first: Indices
    of_row: Indices


def solve_repeated(scans: Scans) -> Optimum | None:
    """The optimum of a matrix whose rows, or whose columns, repeat a few; None for any other."""
    n = scans.n
    every, some = np.arange(n), np.arange(0, n, SAMPLED_EACH)
    none = np.zeros_like(some)
    if _are_few(scans.values(some, none), n):
        costs = scans.matrix()
        found = kinds(costs)
        if found is not None:
            columns, potentials = _assigned(costs, found)
            prices = np.empty(n)
            prices[columns] = scans.values(every, columns) - potentials[found.of_row]
            return Optimum(columns, prices, duality_gap(costs, columns, prices))
    if _are_few(scans.values(none, some), n):
        costs = scans.matrix()
        found = kinds(costs.T)
        if found is not None:
            rows, potentials = _assigned(costs.T, found)
            columns, prices = np.argsort(rows), potentials[found.of_row]
            return Optimum(columns, prices, duality_gap(costs, columns, prices))
    return None


def kinds(costs: NDArray[np.floating]) -> Kinds | None:
    """Sort rows that are equal into kinds; None where these are not few."""
    n = len(costs)
    probes = costs[:, evenly(n, PROBES)]
    mixed = (probes * np.random.default_rng(0).standard_normal(PROBES)).sum(axis=1)
    _, first, of_row = np.unique(mixed, return_index=True, return_inverse=True)
    if len(first) * LEAST_REPEATS > n:
        return None
    for begin in range(0, n, ROWS_AT_ONCE):
        part = slice(begin, begin + ROWS_AT_ONCE)
        if not np.array_equal(costs[part], costs[first[of_row[part]]]):
            return None
    return Kinds(first, of_row)


def transport(costs: NDArray[np.float64], supply: Indices) -> tuple[Indices, Vector]:
    """The kind that every column is given, ``supply`` columns to each, and a potential per kind.

    Args:
        costs: what the kinds gain by the columns, ``(kinds, n)``.
        supply: how many columns each kind is to have; n in all.

    Returns:
        ``owner`` and ``potentials`` such that no kind gains more by a column, less its potential,
        than the column's owner does.
    """
    owner = costs.argmax(axis=0)
    excess = np.bincount(owner, minlength=len(supply)) - supply
    tolerance = ROUNDING * float(np.abs(costs).max())
    k = len(supply)
    loss, passed_on = np.full((k, k), np.inf), np.zeros((k, k), dtype=np.int64)

    def weigh(kind: int) -> None:
        """What it costs to pass on the column that costs least, from one kind to each."""
        held = np.flatnonzero(owner == kind)
        loss[kind] = np.inf
        if held.size:
            losses = costs[kind, held] - costs[:, held]
            cheapest = losses.argmin(axis=1)
            loss[kind], passed_on[kind] = losses[np.arange(k), cheapest], held[cheapest]

    for kind in range(k):
        weigh(kind)
    while (excess > 0).any():
        lengths, before = _shortest(loss, np.where(excess > 0, 0.0, np.inf), tolerance)
        kind = int(np.where(excess < 0, lengths, np.inf).argmin())
        path = [kind]
        while before[path[-1]] >= 0:
            path.append(int(before[path[-1]]))
        excess[path[0]] += 1
        excess[path[-1]] -= 1
        columns = [passed_on[giver, taker] for taker, giver in pairwise(path)]
        owner[columns] = path[:-1]
        for kind in path:
            weigh(kind)
    lengths, _ = _shortest(loss, np.zeros(k), tolerance)
    return owner, -lengths


def _shortest(loss: Vector, lengths: Vector, tolerance: float) -> tuple[Vector, Indices]:
    """The lengths of the shortest paths to every kind, and the last but one kind on them (R.
    Bellman and L. R. Ford)."""
    before = np.full(len(lengths), -1)
    for _ in lengths:
        through = lengths[:, None] + loss
        last = through.argmin(axis=0)
        shorter = through[last, np.arange(len(lengths))]
        better = shorter < lengths - tolerance
        if not better.any():
            break
        lengths = np.where(better, shorter, lengths)
        before[better] = last[better]
    return lengths, before


def _assigned(costs: NDArray[np.floating], found: Kinds) -> tuple[Indices, Vector]:
    """The column of every row, and a potential per kind."""
    supply = np.bincount(found.of_row)
    owner, potentials = transport(costs[found.first].astype(np.float64), supply)
    columns = np.empty(len(costs), dtype=np.int64)
    columns[np.argsort(found.of_row, kind="stable")] = np.argsort(owner, kind="stable")
    return columns, potentials


def _are_few(values: Vector, n: int) -> bool:
    """Could values of some of n rows be those of few kinds?"""
    return len(set(values.tolist())) * LEAST_REPEATS <= n
