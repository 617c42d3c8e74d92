"""Ops whose result depends on the order of the units."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from .parts import Apply, around
from .registry import FLAT, S, f, network, wr


@network(FLAT, f(6), S(6))
def softmax_over_units() -> nn.Module:
    return around(lambda h: h.softmax(1), 6)


@network(FLAT, f(6), S(6))
def log_softmax_over_units() -> nn.Module:
    return around(lambda h: F.log_softmax(h, dim=1), 6)


@network(FLAT, 0.0, [])
def argmax_over_units() -> nn.Module:
    """The index of a unit is an output."""
    return nn.Sequential(nn.Linear(3, 6), Apply(lambda h: h.argmax(1)))


@network(FLAT, f(6), S(6))
def sorted_units() -> nn.Module:
    """The first layer's rows can move alone: sorting undoes it."""
    return around(lambda h: h.sort(1)[0], 6)


@network(FLAT, f(6), S(6))
def top_units() -> nn.Module:
    """The same with those that are left."""
    return around(lambda h: h.topk(2, 1)[0], 6, 2)


@network(FLAT, 0.0, [])
def cumulated_units() -> nn.Module:
    return around(lambda h: h.cumsum(1), 6)


@network(FLAT, 0.0, [])
def units_averaged_in_windows() -> nn.Module:
    return around(lambda h: F.avg_pool1d(h.unsqueeze(1), 3, 1).squeeze(1), 6, 4)


@network(FLAT, f(3) + 3 * f(2), wr(3, 2))
def units_averaged_in_pairs() -> nn.Module:
    """Windows that do not overlap are groups."""
    return around(lambda h: F.avg_pool1d(h.unsqueeze(1), 2).squeeze(1), 6, 3)


@network(FLAT, 0.0, [])
def multiplied_with_positions() -> nn.Module:
    return around(lambda h: h * torch.arange(6), 6)


@network(FLAT, 0.0, [])
def units_looked_up() -> nn.Module:
    """An index into the units that depends on the input."""
    return around(lambda h: h.gather(1, (h[:, :2] > 0).long()), 6, 2)
