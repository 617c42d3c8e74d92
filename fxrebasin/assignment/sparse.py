"""Exact assignment on a few candidate entries, with a certificate for the whole matrix.

1. Prices to start from: those of an earlier solution, of an auction, or of Sinkhorn's iteration.
2. Candidates: some twenty entries per row that are good at these prices.
3. An optimal assignment of the candidates (shortest augmenting paths), and its exact prices.
4. A pass over the matrix finds the entries that would be better at these prices. Without any, the
   assignment is optimal; else they join the candidates, and the last two steps are done again.

Where that does not pay, which shows early, the dense solver takes over, at the prices found.

Source: for the third step, R. Jonker and A. Volgenant, "A shortest augmenting path algorithm for
dense and sparse linear assignment problems" (1987), as in
``scipy.sparse.csgraph.min_weight_full_bipartite_matching``; for the fourth, column generation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from .auction import auction, completed
from .candidates import candidates, with_keys
from .passes import Moments, Passes
from .problem import Indices, Optimum, Vector
from .sinkhorn import sinkhorn
from .sparse_prices import raise_prices

ROUNDING = 4e-7
TOLERANCE = 1e-12
MOST_ROUNDS = 9
MOST_RISES = 300
"""What single precision may lose in a reduced cost, relative to utilities and prices."""


class Verdict(NamedTuple):
    """What a pass over the whole matrix says about an assignment and its prices."""

    gap: float
    better: Indices
    """Keys of the entries that rows like better than what they take; sorted."""


def verify(passes: Passes, columns: Indices, prices: Vector, tolerance: float) -> Verdict | None:
    """Which entries are better than those taken, compared in float64; None if there are many."""
    n = passes.n
    rows = np.arange(n)
    utilities = passes.values(rows, columns) - prices[columns]
    rounding = ROUNDING * (np.abs(utilities) + np.abs(prices).max())
    keys = passes.above(prices, utilities - rounding, limit=16 * n)
    if keys is None:
        return None
    i, j = np.divmod(keys, n)
    gains = passes.values(i, j) - prices[j] - utilities[i]
    better = gains > tolerance
    most = np.zeros(n)
    np.maximum.at(most, i, gains)
    return Verdict(float(most.sum()), keys[better])


def still_optimal(passes: Passes, warm: Optimum, allowed: float) -> float | None:
    """The gap of an earlier solution at its prices, if it is no larger than allowed."""
    verdict = verify(passes, warm.columns, warm.prices, np.inf)
    return verdict.gap if verdict is not None and verdict.gap <= allowed else None


def solve(
    passes: Passes, moments: Moments, scale: float, warm: Vector | None = None
) -> Optimum | Vector:
    """An optimal assignment; or, where that does not pay, prices to start another solver from."""
    n = passes.n
    rows = np.arange(n)
    tolerance = TOLERANCE * scale
    prices, found = first_prices(passes, scale, warm)
    utilities, slack = passes.transform(prices)
    prices = prices - slack
    wanted = 20 if warm is None else 12
    keys = candidates(passes, moments, utilities, prices, found, per_row=wanted)
    for _ in range(MOST_ROUNDS):
        if keys is None:
            break
        columns, raised = match(keys, passes, utilities, prices, tolerance)
        if raised is None:
            break
        prices = raised
        verdict = verify(passes, columns, prices, tolerance)
        if verdict is None:
            break
        if not len(verdict.better):
            return Optimum(columns, prices, verdict.gap)
        keys = with_keys(keys, verdict.better)
        utilities = passes.values(rows, columns) - prices[columns]
    return prices


def first_prices(passes: Passes, scale: float, warm: Vector | None) -> tuple[Vector, Indices]:
    """Prices at which most rows like different columns best, and a permutation to match."""
    n = passes.n
    prices = np.zeros(n) if warm is None else warm
    bids = passes.best(prices)
    conflicts = n - len(np.unique(bids.columns))
    step, rounds, enough = 0.05, 12, 0.1
    if conflicts > n // 2:
        prices = sinkhorn(passes, scale)
        bids = passes.best(prices)
        rounds, enough = 30, 0.02
    elif warm is not None:
        step, rounds = 0.01, 3
    prices, columns = auction(passes, prices, bids, step=step * scale, rounds=rounds, enough=enough)
    return prices, completed(columns)


def match(
    keys: Indices, passes: Passes, utilities: Vector, prices: Vector, tolerance: float
) -> tuple[Indices, Vector | None]:
    """An optimal assignment of the candidates, and its exact prices unless these diverge."""
    n = passes.n
    rows, indices = np.divmod(keys, n)
    indptr = np.searchsorted(keys, np.arange(n + 1) * n)
    costs = passes.values(rows, indices)
    weights = utilities[rows] + prices[indices] - costs
    weights += 0.01 * weights.mean() - weights.min() + tolerance  # an edge of weight zero is none
    graph = csr_array((weights, indices.astype(np.int32), indptr.astype(np.int32)), shape=(n, n))
    matched, columns = min_weight_full_bipartite_matching(graph)
    columns = columns[np.argsort(matched)].astype(np.int64)
    paid = passes.values(np.arange(n), columns)
    raised = raise_prices(
        indptr, indices, costs, columns, paid, prices, tolerance=tolerance / 10, rounds=MOST_RISES
    )
    return columns, raised
