"""The sparse engine on batches: units, scales and leftovers that its algorithm does not suit.

Costs of extreme size are rescaled by a power of two, which loses nothing. Constant rows and
columns, which dead units leave, are paired with each other. Costs of which a few dwarf the rest go
to the dense solver, and so does what the sparse one gives up.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .dead_units import dead_pairs, live, with_dead
from .dense import dense_columns, recover_prices
from .passes import HostPasses
from .problem import Assignment, Optimum, Vector, chosen
from .sparse import solve, still_optimal

Matrix = NDArray[np.floating]

SAFE = 1e-10, 1e10
"""Root mean squares of costs whose squares, and sums of them, single precision can hold."""
MOST_CONTRAST = 1e5
"""Root mean square over spread: beyond, single precision no longer tells entries apart."""


def solve_sparse(costs: Tensor, warm: Assignment | None = None) -> Assignment:
    """The engine for large problems: exact, and certified by prices."""
    matrices = costs.cpu().contiguous().numpy()
    columns = np.empty(matrices.shape[:2], dtype=np.int64)
    prices = np.empty(matrices.shape[:2])
    gaps = np.empty(len(matrices))
    for b, matrix in enumerate(matrices):
        earlier = None
        if warm is not None and warm.prices is not None:
            earlier = Optimum(warm.columns[b].cpu().numpy(), warm.prices[b].cpu().numpy(), 0.0)
        columns[b], prices[b], gaps[b] = optimum(matrix, earlier)
    taken, v, gap = (torch.from_numpy(x).to(costs.device) for x in (columns, prices, gaps))
    return Assignment(taken, chosen(costs, taken).sum(dim=1), v, gap)


def optimum(costs: Matrix, warm: Optimum | None) -> Optimum:
    """The optimum of one matrix at any scale."""
    if warm is not None:
        paid = costs[np.arange(len(costs)), warm.columns]
        allowed = float(np.finfo(costs.dtype).eps * np.abs(paid).sum(dtype=np.float64))
        gap = still_optimal(HostPasses(costs, torch.get_num_threads()), warm, allowed)
        if gap is not None:
            return warm._replace(gap=gap)
    rms = root_mean_square(costs)
    if SAFE[0] < rms < SAFE[1]:
        return _optimum(costs, rms, warm)
    exponent = int(np.frexp(np.abs(costs).max())[1])
    scaled = np.ldexp(costs, -exponent)
    if warm is not None:
        warm = warm._replace(prices=np.ldexp(warm.prices, -exponent))
    found = _optimum(scaled, root_mean_square(scaled), warm)
    return Optimum(found.columns, np.ldexp(found.prices, exponent), found.gap * 2.0**exponent)


def root_mean_square(costs: Matrix) -> float:
    flat = torch.from_numpy(costs).reshape(-1)
    return float((flat @ flat) / flat.numel()) ** 0.5


def _optimum(costs: Matrix, rms: float, warm: Optimum | None) -> Optimum:
    """The optimum of a matrix whose squares are finite."""
    n = len(costs)
    sample = costs[np.linspace(0, n - 1, 16).astype(np.int64)].astype(np.float64)
    scale = float(np.median(sample.std(axis=1)))
    if not rms < MOST_CONTRAST * scale:
        return by_dense_solver(costs, None)
    passes = HostPasses(costs, torch.get_num_threads())
    dead = dead_pairs(costs)
    if dead is not None:
        rest = np.ascontiguousarray(costs[np.ix_(live(dead.rows, n), live(dead.columns, n))])
        whole = with_dead(_optimum(rest, rms, None), costs, dead)
        if whole is not None:
            return whole
    found = solve(passes, rms, scale, None if warm is None else warm.prices)
    return found if isinstance(found, Optimum) else by_dense_solver(costs, found)


def by_dense_solver(costs: Matrix, prices: Vector | None) -> Optimum:
    columns = dense_columns(costs, prices)
    return Optimum(columns, *recover_prices(costs, columns, prices))
