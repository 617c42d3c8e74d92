"""Ops in which every position along an axis plays a part of its own: running totals, masks ..."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.utils._pytree import tree_leaves

from ..layouts.layout import Layout
from .call import Call
from .reduction import reduce_in_order

IN_ORDER = "is counted along: what comes before it matters"


def scan(call: Call, x: Layout, dim: int, *args: Any, **kwargs: Any) -> list[Layout]:
    """``cumsum``, ``cumprod``, ``cummax`` and others."""
    dims = [dim] if x.ndim else []
    x = call.pin(x, IN_ORDER, dims)
    return [call.merge(x, call.positions(x.shape, dims))] * len(call.shapes)


def triangle(call: Call, x: Layout, *args: Any) -> Layout:
    """``tril`` and ``triu``: a constant mask over the last two axes."""
    return call.merge(x, call.positions(x.shape, (-2, -1)))


def fft(call: Call, x: Layout, dim: Sequence[int], *args: Any) -> Layout:
    """Along ``dim`` every position depends on every other, each in its way."""
    return call.merge(reduce_in_order(call, x, dim), call.positions(call.shape, dim))


def cross(call: Call, x: Layout, y: Layout, *, dim: int = -1) -> Layout:
    """Products of vectors of three numbers, each of which counts for itself."""
    apart = (reduce_in_order(call, v, [dim]) for v in (x, y))
    return call.merge(*apart, call.positions(call.shape, [dim]))


def segment_reduce(
    call: Call,
    x: Layout,
    how: str,
    *,
    lengths: Layout | None = None,
    indices: Layout | None = None,
    offsets: Layout | None = None,
    axis: int = 0,
    **kwargs: Any,
) -> Layout:
    """Runs of positions along an axis become one, which begin elsewhere for every row in front."""
    axis = axis % x.ndim
    places = call.positions(call.shape, range(axis + 1))
    for begins in (lengths, indices, offsets):
        if begins is not None:
            call.pin(begins, "holds where segments begin")
    return call.merge(reduce_in_order(call, x, range(axis + 1)), places)


def histogram(call: Call, *args: Any, **kwargs: Any) -> Layout:
    """How often a value occurs, or the sum of weights there, whatever the order."""
    met = call.merge(*(x for x in args if isinstance(x, Layout)))
    call.reduce(met, range(met.ndim))
    return call.positions(call.shape)


def searchsorted(call: Call, bounds: Layout, x: Any, *args: Any, **kwargs: Any) -> Layout:
    """Each value's place among bounds, which cannot move."""
    call.pin(bounds, "holds the bounds that values are sorted into")
    if not isinstance(x, Layout) or bounds.ndim > 1:
        return call.pinned(*(o for o in (x, bounds) if isinstance(o, Layout)))[0]
    return Layout(call.shape, call.resolve(x).coordinates)


def bucketize(call: Call, x: Any, bounds: Layout, *args: Any, **kwargs: Any) -> Layout:
    return searchsorted(call, bounds, x)


def select_by_values(call: Call, *args: Any, **kwargs: Any) -> Sequence[Layout]:
    """Ops that have as many results as the values decide."""
    operands = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Layout)]
    return call.pinned(*operands, reason=f"{call.op} chooses places by their values")
