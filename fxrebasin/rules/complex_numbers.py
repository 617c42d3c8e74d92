"""Complex tensors as pairs of real numbers, and back."""

from __future__ import annotations

from ..layouts.adoption import resolve
from ..layouts.coordinates import positional
from ..layouts.layout import Layout
from ..layouts.primitives import move
from .call import Call


def as_pairs(call: Call, x: Layout) -> Layout:
    """A new last axis, whose two places are the real and the imaginary part."""
    (raised,) = move(resolve(call.units, x), lambda t: t.unsqueeze(-1))
    parts = positional(call.units, call.shape, (len(call.shape) - 1,))
    return Layout(call.shape, (*raised.coordinates, *parts))


def of_pairs(call: Call, x: Layout) -> Layout:
    """The two entries along the last axis meet in one number."""
    return call.merge(*move(resolve(call.units, x), lambda t: t.unbind(-1)))
