"""The sparse engine on batches: units, scales and leftovers that its algorithm does not suit.

Costs of extreme size are rescaled by a power of two, which loses nothing. Constant rows and
columns, which dead units leave, are paired with each other. Where all rows like different columns
best, there is nothing to solve. Rows or columns that repeat a few are solved kind by kind. Costs of
which a few dwarf the rest go to the dense solver, and so does what the sparse one gives up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..dense import dense_columns, recover_prices
from ..problem import Assignment, Indices, Optimum, Vector, evenly, value_of
from .chain import chain_prices, is_outer_product
from .columns import solve, solve_again, still_optimal
from .dead_units import dead_pairs, live, with_dead
from .device_scans import DeviceScans
from .duplicates import solve_repeated
from .scans import HostScans, Scans

Matrix = TypeVar("Matrix", NDArray[np.floating], Tensor)
"""In the memory of the processor, or on a device."""

SAFE = 1e-10, 1e10
"""Root mean squares of costs whose squares, and sums of them, single precision can hold."""
MOST_CONTRAST = 1e5
"""Root mean square over spread: beyond, single precision no longer tells entries apart."""
FIRST_ROWS = 64
"""Rows in which it is first looked whether all like different columns best."""
SAMPLED_ROWS = 16
"""Rows by which contrast is judged."""
MOST_LEFT_DEAD = 1 / 16
"""The share of units by which dead rows and dead columns may differ in number."""


def solve_sparse(costs: Tensor, warm: Assignment | None = None) -> Assignment:
    """The engine for large problems: exact, and certified by prices.

    Whole matrices stay on their device; what is left of them is solved by the processor.
    """
    # Indexing tensors takes longer than indexing arrays, which shows in single matrices.
    matrices = costs.numpy() if costs.device.type == "cpu" else costs.contiguous()
    earlier: list[Optimum | None] = [None] * len(matrices)
    if warm is not None and warm.prices is not None:
        starts = zip(warm.columns.cpu().numpy(), warm.prices.cpu().numpy(), strict=True)
        earlier = [Optimum(columns, prices, 0.0) for columns, prices in starts]
    found = [optimum(matrices[b], scans_over, start) for b, start in enumerate(earlier)]
    columns, prices, gaps = (torch.from_numpy(np.array(x)) for x in zip(*found, strict=True))
    taken = columns.to(costs.device)
    return Assignment(taken, value_of(costs, taken), prices.to(costs.device), gaps.to(costs.device))


def scans_over(costs: NDArray[np.floating] | Tensor) -> Scans:
    """The passes for where a matrix is."""
    if isinstance(costs, np.ndarray):
        return HostScans(costs, torch.get_num_threads())
    return DeviceScans(costs)


def optimum(costs: Matrix, make_scans: Callable[[Matrix], Scans], warm: Optimum | None) -> Optimum:
    """The optimum of one matrix ``(n, n)`` at any scale."""
    scans = make_scans(costs)
    if warm is not None and warm.prices.any():  # at prices of zero, see what rows like best
        paid = scans.values(np.arange(scans.n), warm.columns)
        rounding = np.finfo(np.float32 if scans.is_exact else np.float64).eps
        gap = still_optimal(scans, warm, float(rounding * np.abs(paid).sum()))
        if gap is not None:
            return warm._replace(gap=gap)
    favourites = _if_all_differ(scans)
    if favourites is not None:
        return Optimum(favourites, np.zeros(scans.n), 0.0)
    rms = scans.root_mean_square()
    if SAFE[0] < rms < SAFE[1]:
        return _optimum(scans, rms, warm)
    largest = 126 if scans.is_exact else 1000  # of powers that the costs can hold
    exponent = min(max(math.frexp(float(np.abs(scans.matrix()).max()))[1], -largest), largest)
    scaled = make_scans(costs * 2.0**-exponent)
    if warm is not None:
        warm = warm._replace(prices=np.ldexp(warm.prices, -exponent))
    found = _optimum(scaled, scaled.root_mean_square(), warm)
    return Optimum(found.columns, np.ldexp(found.prices, exponent), found.gap * 2.0**exponent)


def _if_all_differ(scans: Scans) -> Indices | None:
    """The column that each row likes best, if no two like the same; few rows tell most often."""
    columns = np.empty(scans.n, dtype=np.int64)
    is_taken = np.zeros(scans.n, dtype=bool)
    begin, end = 0, FIRST_ROWS
    while begin < scans.n:
        end = min(end, scans.n)
        columns[begin:end] = scans.favourites(begin, end)
        is_taken[columns[begin:end]] = True
        if np.count_nonzero(is_taken) < end:
            return None
        begin, end = end, 4 * end
    return columns


def _optimum(scans: Scans, rms: float, warm: Optimum | None) -> Optimum:
    """The optimum of a matrix whose squares are finite."""
    n = scans.n
    repeated = solve_repeated(scans)
    if repeated is not None:
        return repeated
    rows, columns = scans.constant()
    if abs(len(rows) - len(columns)) > MOST_LEFT_DEAD * n:
        return _by_dense_solver(scans, None)  # too many ties that no pairing takes away
    dead = dead_pairs(scans, rows, columns)
    if dead is not None and len(dead.rows) < n:
        rest = scans.part(live(dead.rows, n), live(dead.columns, n))
        found = _optimum_of_live(rest, rest.root_mean_square(), None)
        whole = with_dead(found, scans, dead)
        if whole is not None:
            return whole
    return _optimum_of_live(scans, rms, warm)


def _optimum_of_live(scans: Scans, rms: float, warm: Optimum | None) -> Optimum:
    """The optimum of a matrix with few constant rows or columns."""
    n = scans.n
    sample = scans.take(evenly(n, SAMPLED_ROWS))
    centred = sample - sample.mean(axis=1, keepdims=True)
    squares = np.einsum("ij,ij->i", centred, centred)
    scale = math.sqrt(sorted(squares.tolist())[len(squares) // 2] / n)
    if not rms < MOST_CONTRAST * scale:
        return _by_dense_solver(scans, None)
    if is_outer_product(centred):
        return _by_dense_solver(scans, chain_prices(scans))
    found = solve(scans, scale) if warm is None else solve_again(scans, scale, warm)
    return _by_dense_solver(scans, None) if found is None else found


def _by_dense_solver(scans: Scans, prices: Vector | None) -> Optimum:
    costs = scans.matrix()
    columns = dense_columns(costs, prices)
    return Optimum(columns, *recover_prices(costs, columns, prices))
