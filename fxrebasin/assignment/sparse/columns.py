"""Exact assignment on a few candidate entries, with a certificate for the whole matrix.

1. Prices to start from: those of an earlier solution, of an auction, or of Sinkhorn's iteration.
2. Candidates: some sixteen entries per row that are good at these prices.
3. An optimal assignment of the candidates (shortest augmenting paths), and its exact prices.
4. Entries that are no candidates were worse than a bound; in most rows, that proves them to be
   worse at the new prices too. A pass over the other rows finds the entries that are better.
   Without any, the assignment is optimal; else they join the candidates, and the last two steps
   are done again.

Where that does not pay, which shows early, the dense solver takes over, at the prices found.

Source: for the third step, see :mod:`.forests`; for the fourth, column generation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..problem import Indices, Optimum, Vector, evenly
from .auction import FREE, Bidding, auction, completed
from .augmentation import augment
from .candidates import ROUNDING, Candidates, candidates, with_keys
from .forests import solve_sparse_matrix
from .prices import raise_prices
from .scans import Scans
from .sinkhorn import sinkhorn

TOLERANCE = 1e-12
"""What counts as rounding in double precision, relative to the spread of the costs."""
COLD = Bidding(step=0.1, rounds=30, enough=0.05)
"""From prices of zero."""
BALANCED = Bidding(step=0.05, rounds=30, enough=0.02)
"""From prices by Sinkhorn's iteration."""
PER_ROW = 16
"""Candidates that are chosen in each row."""
FEW_FREE = 1 / 20
"""The share of rows that are worth a search for each."""
CROWDED = 2.4
"""The mean square of how many rows like a column best, from which on balanced prices pay. It is 2
where every row likes a random column."""
MOST_TIES = 1 / 4
"""The share of rows that may like two columns equally well best."""
LEAST_CONTENT = 1 / 4
"""The share of rows that an earlier solution must still suit to be a start."""
ROWS_ASKED = 64
"""Rows that are looked at before all are, to see whether an earlier solution still suits."""
MOST_ROUNDS = 9
"""How often candidates may be added before the dense solver takes over."""
MOST_RISES = 300
"""Rounds in which prices may rise before they are given up."""


class Verdict(NamedTuple):
    """What a pass over the whole matrix says about an assignment and its prices."""

    gap: float
    better: Indices
    """Keys of the entries that rows like better than what they take; sorted."""


def certify(
    scans: Scans,
    columns: Indices,
    prices: Vector,
    tolerance: float,
    limit: int,
    content: NDArray[np.bool_] | None = None,
) -> Verdict | None:
    """Which entries are better than those taken, compared in float64; None if there are many.

    Rows that are known to be ``content`` with what they take are not looked at.
    """
    n = scans.n
    rows = None if content is None else np.flatnonzero(~content)
    if rows is not None and not len(rows):
        return Verdict(0.0, rows)
    asked = np.arange(n) if rows is None else rows
    utilities = scans.values(np.arange(n), columns) - prices[columns]
    rounding = ROUNDING * (np.abs(utilities[asked]) + np.abs(prices).max())
    keys = scans.above(prices, utilities[asked] - rounding, limit, rows)
    if keys is None:
        return None
    i, j = np.divmod(keys, n)
    gains = scans.values(i, j) - prices[j] - utilities[i]
    better = gains > tolerance
    most = np.zeros(n)
    np.maximum.at(most, i, gains)
    return Verdict(float(most.sum()), keys[better])


def still_optimal(scans: Scans, warm: Optimum, allowed: float) -> float | None:
    """The gap of an earlier solution at its prices, if it is no larger than allowed.

    Some rows tell most often that it is larger.
    """
    n = scans.n
    rows = evenly(n, ROWS_ASKED)
    own = scans.values(rows, warm.columns[rows]) - warm.prices[warm.columns[rows]]
    best = (scans.take(rows) - warm.prices).max(axis=1)
    if (best - own).sum() > allowed:
        return None
    verdict = certify(scans, warm.columns, warm.prices, np.inf, 16 * n)
    if verdict is None:  # many entries are as good as those taken
        verdict = certify(scans, warm.columns, warm.prices, np.inf, n * n)
    return verdict.gap if verdict is not None and verdict.gap <= allowed else None


def solve(scans: Scans, scale: float) -> Optimum | None:
    """An optimal assignment, or None where the dense solver is the better one.

    Args:
        scans: the matrix.
        scale: the spread of the costs within a row.
    """
    n = scans.n
    tolerance = TOLERANCE * scale
    prices = np.zeros(n)
    bids = scans.best(prices)
    if (bids.first == bids.second).sum() > MOST_TIES * n:
        return None
    demand = np.bincount(bids.columns, minlength=n)
    if n - np.count_nonzero(demand) <= FEW_FREE * n:
        wanted, first = np.unique(bids.columns, return_index=True)
        columns = np.full(n, FREE)
        columns[first] = wanted
        liked = bids.columns if scans.is_exact else None
        utilities = scans.values(np.arange(n), bids.columns)
        found = _with_last_rows(scans, utilities, prices, columns, tolerance, liked)
        if found is not None:
            return found
    if demand @ demand > CROWDED * n:
        if len(np.unique(bids.first)) < n // 2:
            return None  # rows repeat each other
        prices = sinkhorn(scans, scale)
        prices, columns = auction(scans, prices, scans.best(prices), scale, BALANCED)
        utilities, slack = scans.transform(prices)
        return _near(scans, utilities, prices - slack, columns, tolerance)
    prices, columns = auction(scans, prices, bids, scale, COLD)
    utilities = scans.values(np.arange(n), columns) - prices[columns]  # to a step
    free = np.flatnonzero(columns == FREE)
    utilities[free] = scans.best(prices, free).first
    return _near(scans, utilities, prices, columns, tolerance)


def solve_again(scans: Scans, scale: float, warm: Optimum) -> Optimum | None:
    """The same from an earlier solution, whose prices are nearly right."""
    n = scans.n
    tolerance = TOLERANCE * scale
    prices, columns = warm.prices, warm.columns
    own = scans.values(np.arange(n), columns) - prices[columns]
    utilities, slack = scans.transform(prices)
    rounding = ROUNDING * (np.abs(own) + np.abs(prices).max())
    content = utilities <= own + rounding
    share = np.count_nonzero(content) / n
    if share < LEAST_CONTENT:
        return solve(scans, scale)
    if share >= 1 - FEW_FREE:
        left = np.where(content, columns, FREE)
        found = _with_last_rows(scans, own, prices, left, tolerance)
        if found is not None:
            return found
    return _near(scans, utilities, prices - slack, columns, tolerance)


def _with_last_rows(
    scans: Scans,
    utilities: Vector,
    prices: Vector,
    columns: Indices,
    tolerance: float,
    liked: Indices | None = None,
) -> Optimum | None:
    """The optimum where few rows are free and all others content, unless that takes long.

    ``liked`` are the columns that rows are known to like best at these prices.
    """
    n = scans.n
    found = augment(scans, utilities, prices, columns, n // 4)
    if found is None:
        return None
    raised, taken = found
    content = None
    if liked is not None:  # what others like has but become dearer
        content = (taken == liked) & (raised[taken] == prices[taken])
    verdict = certify(scans, taken, raised, tolerance, 16 * n, content)
    if verdict is None or len(verdict.better):
        return None
    return Optimum(taken, raised, verdict.gap)


def _near(
    scans: Scans, utilities: Vector, prices: Vector, columns: Indices, tolerance: float
) -> Optimum | None:
    """The optimum from prices that are nearly its own, and ``columns`` for most rows."""
    required = completed(scans, prices, columns)
    chosen = candidates(scans, utilities, prices, required, per_row=PER_ROW)
    if chosen is None:
        return None
    return refine(scans, chosen, required, prices, tolerance)


def refine(
    scans: Scans,
    chosen: Candidates,
    columns: Indices,
    prices: Vector,
    tolerance: float,
) -> Optimum | None:
    """Solve on the candidates, and add what is missing, until nothing is or that takes long."""
    rows = np.arange(scans.n)
    keys = chosen.keys
    for _ in range(MOST_ROUNDS):
        columns, raised = solve_candidates(keys, scans, columns, prices, tolerance)
        if raised is None:
            return None
        prices = raised
        utilities = scans.values(rows, columns) - prices[columns]
        content = chosen.content(utilities, prices)
        verdict = certify(scans, columns, prices, tolerance, 32 * scans.n, content)
        if verdict is None:
            return None
        if not len(verdict.better):
            return Optimum(columns, prices, verdict.gap)
        keys = with_keys(keys, verdict.better)
    return None


def solve_candidates(
    keys: Indices, scans: Scans, columns: Indices, prices: Vector, tolerance: float
) -> tuple[Indices, Vector | None]:
    """An optimal assignment of the candidates, ``columns`` among them, and its prices, as near to
    the given ones as they can be, unless these diverge."""
    n = scans.n
    starts = np.arange(n + 1) * n
    indptr = np.searchsorted(keys, starts)
    degrees = np.diff(indptr)
    indices = keys - np.repeat(starts[:-1], degrees)
    costs = scans.values(np.repeat(np.arange(n), degrees), indices)
    columns = solve_sparse_matrix(indptr, indices, costs, columns, prices)
    paid = scans.values(np.arange(n), columns)
    gains = costs - np.repeat(paid, degrees)
    raised = raise_prices(
        indptr, indices, gains, columns, prices, tolerance=tolerance / 10, rounds=MOST_RISES
    )
    return columns, raised
