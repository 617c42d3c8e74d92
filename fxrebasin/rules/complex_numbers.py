"""Complex tensors as pairs of real numbers, and back."""

from __future__ import annotations

from ..layouts.layout import Layout
from .call import Call


def view_as_real(call: Call, x: Layout) -> Layout:
    """A new last axis, whose two positions are the real and the imaginary part."""
    (raised,) = call.move(x, lambda t: t.unsqueeze(-1))
    return call.merge(raised, call.positions(call.shape, [-1]))


def view_as_complex(call: Call, x: Layout) -> Layout:
    """The two entries along the last axis meet in one number."""
    return call.merge(*call.move(x, lambda t: t.unbind(-1)))
