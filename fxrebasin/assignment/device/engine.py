"""The engine for batches on a device: everything stays there, and the host hardly ever waits."""

from __future__ import annotations

import torch
from torch import Tensor

from ..dense import solve_dense, with_prices
from ..problem import Assignment, chosen
from .augmenting_paths import solve_augmenting_paths

MOST_CONTRAST = 1e5
"""Range over the median spread of rows beyond which a problem is left to the dense solver."""


def solve_on_device(costs: Tensor, warm: Assignment | None = None) -> Assignment:
    """Solve a whole batch at once by shortest augmenting paths, in tensor operations.

    Earlier solutions that are still optimal at their prices, to the rounding of the costs, cost
    one pass over the matrices.
    """
    earlier = None if warm is None else warm.prices
    if warm is not None and earlier is not None:
        kept = _certified(costs, warm.columns, earlier)
        assert kept.gap is not None
        rounding = torch.finfo(costs.dtype).eps * chosen(costs, kept.columns).abs().sum(dim=1)
        if bool((kept.gap <= rounding).all()):
            return kept
    columns, prices = solve_augmenting_paths(costs, prices=earlier)
    wild = _dwarfed(costs)
    if bool(wild.any()):
        exact = with_prices(solve_dense(costs[wild]), costs[wild])
        assert exact.prices is not None
        columns[wild], prices[wild] = exact.columns, exact.prices
    return _certified(costs, columns, prices)


def _dwarfed(costs: Tensor) -> Tensor:
    """Whether a few entries are so large that fixed point numbers lose the differences of the
    rest; ``(B,)``."""
    contrast = costs.amax(dim=(1, 2)).double() - costs.amin(dim=(1, 2)).double()
    spread = costs.double().std(dim=2, correction=0).median(dim=1).values
    return contrast > MOST_CONTRAST * spread


def _certified(costs: Tensor, columns: Tensor, prices: Tensor) -> Assignment:
    """A solution with its value, and its gap at some prices, in float64."""
    utilities = (costs - prices[:, None]).amax(dim=2)
    taken = chosen(costs, columns)
    gap = (utilities - taken + prices.gather(1, columns)).sum(dim=1)
    return Assignment(columns, taken.sum(dim=1), prices, gap)
