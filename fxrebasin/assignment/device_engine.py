"""The engine for batches on a device: everything stays there, and the host hardly ever waits."""

from __future__ import annotations

import torch
from torch import Tensor

from .augmenting_paths import solve_augmenting_paths
from .problem import Assignment, chosen


def solve_on_device(costs: Tensor, warm: Assignment | None = None) -> Assignment:
    """Solve a whole batch at once by shortest augmenting paths, in tensor operations.

    Earlier solutions that are still optimal at their prices, to the rounding of the costs, cost
    one pass over the matrices.
    """
    earlier = None if warm is None or warm.prices is None else warm
    if earlier is not None and earlier.prices is not None:
        kept = _certified(costs, earlier.columns, earlier.prices)
        assert kept.gap is not None
        rounding = torch.finfo(costs.dtype).eps * chosen(costs, kept.columns).abs().sum(dim=1)
        if bool((kept.gap <= rounding).all()):
            return kept
    columns, prices = solve_augmenting_paths(costs, prices=earlier and earlier.prices)
    return _certified(costs, columns, prices)


def _certified(costs: Tensor, columns: Tensor, prices: Tensor) -> Assignment:
    """A solution with its value, and its gap at some prices, in float64."""
    utilities = (costs - prices[:, None]).amax(dim=2)
    taken = chosen(costs, columns)
    gap = (utilities - taken + prices.gather(1, columns)).sum(dim=1)
    return Assignment(columns, taken.sum(dim=1), prices, gap)
