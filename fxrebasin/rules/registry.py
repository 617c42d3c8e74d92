"""Where rules are looked up: one dict from an op to what it does to layouts.

A rule takes the :class:`Call` at hand and the op's own arguments with tensors replaced by layouts,
and returns a layout per result. It states mathematics only: no weights, no search.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .. import primitives, signature
from ..layout import Layout, Shape
from ..units import Units

Rule = Callable[..., Layout | Sequence[Layout]]


@dataclass(frozen=True)
class Call:
    """One execution of an op: the units of the analysis and the shapes of the results."""

    units: Units
    op: str
    shapes: tuple[Shape, ...]

    @property
    def shape(self) -> Shape:
        return self.shapes[0]

    def merge(self, *operands: Layout) -> Layout:
        return primitives.merge(self.units, *operands)

    def reduce(self, x: Layout, dims: Sequence[int], *, keepdim: bool = False) -> Layout:
        return primitives.reduce(self.units, x, tuple(dims), keepdim=keepdim)

    def signature(self, text: str, *operands: Layout | None, **sizes: int) -> Layout:
        return signature.apply(self.units, text, operands, self.shape, sizes)

    def pin(self, x: Layout, reason: str, dims: Sequence[int] | None = None) -> Layout:
        dims = None if dims is None else tuple(d % x.ndim for d in dims)
        return primitives.pin(self.units, x, reason, dims)

    def pinned(self, *operands: Layout, reason: str | None = None) -> tuple[Layout, ...]:
        """The results of an op that is not understood."""
        reason = reason or f"{self.op} is not understood"
        return tuple(
            primitives.pinned(self.units, shape, *operands, reason=reason) for shape in self.shapes
        )
