"""Pointwise ops: the operands broadcast and meet."""

from __future__ import annotations

from typing import Any

from ..layouts.layout import Layout
from .call import Call
from .movement import keep_entries


def merge(call: Call, *args: Any, **kwargs: Any) -> list[Layout]:
    """The rule of every op that torch tags as pointwise."""
    operands = [x for x in [*args, *kwargs.values()] if isinstance(x, Layout)]
    found = keep_entries(call, *operands) if len(operands) == 1 else call.merge(*operands)
    return [found] * len(call.shapes)


def rrelu(
    call: Call,
    x: Layout,
    noise: Any,
    lower: float = 0.0,
    upper: float = 0.0,
    training: bool = False,
    *args: Any,
) -> Layout:
    """Outside of training there is one slope for all entries; in training it is random."""
    return call.pinned(x)[0] if training else keep_entries(call, x)
