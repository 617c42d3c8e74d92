"""Rounding to the numbers that integers stand for, with a scale per tensor or per channel."""

from __future__ import annotations

from typing import Any

from ..layouts.layout import Layout
from .call import Call
from .movement import keep_entries


def per_tensor(call: Call, x: Layout, *args: Any) -> list[Layout]:
    """One scale for all: entries stay where they are; second, which of them were in range."""
    return [keep_entries(call, x)] * len(call.shapes)


def per_channel(
    call: Call, x: Layout, scale: Layout, zero_point: Layout, axis: int, *args: Any
) -> list[Layout]:
    """Scales and zero points belong to the channels, as statistics do."""
    return [call.merge(x, *_lay(x, axis, scale, zero_point))] * len(call.shapes)


def observed(
    call: Call,
    x: Layout,
    observer_on: Layout,
    quantises: Layout,
    low: Layout,
    high: Layout,
    scale: Layout,
    zero_point: Layout,
    averaging: float,
    smallest: int,
    largest: int,
    axis: int,
    is_per_channel: bool = False,
    *args: Any,
) -> list[Layout]:
    """The range of the entries is followed first, of all of them or channel by channel."""
    others = [d for d in range(x.ndim) if d != axis or not is_per_channel]
    met = call.merge(x, call.reduce(x, others, keepdim=True))
    if is_per_channel:
        met = call.merge(met, *_lay(x, axis, low, high, scale, zero_point))
    return [met] * len(call.shapes)


def _lay(x: Layout, axis: int, *stored: Layout) -> list[Layout]:
    """What is stored per channel along the axis of the channels; at first nothing may be."""
    n, axis = x.shape[axis], axis % x.ndim
    shape = tuple(n if d == axis else 1 for d in range(x.ndim))
    return [s.as_parameter().reshape(shape) for s in stored if s.shape == (n,)]
