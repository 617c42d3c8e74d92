"""Rounding to the numbers that integers stand for, with a scale per tensor or per channel."""

from __future__ import annotations

from typing import Any

from ..layouts.layout import Layout
from .call import Call


def per_tensor(call: Call, x: Layout, *args: Any) -> list[Layout]:
    """One scale for all: entries stay where they are; second, which of them were in range."""
    return [x] * len(call.shapes)


def per_channel(
    call: Call, x: Layout, scale: Layout, zero_point: Layout, axis: int, *args: Any
) -> list[Layout]:
    """Scales and zero points belong to the channels, as statistics do."""
    n = x.shape[axis]
    lying = tuple(n if d == axis % x.ndim else 1 for d in range(x.ndim))
    stored = (s.as_parameter().reshape(lying) for s in (scale, zero_point))
    return [call.merge(x, *stored)] * len(call.shapes)
