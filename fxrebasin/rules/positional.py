"""Ops in which every place along an axis counts for itself: running totals, masks, transforms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.utils._pytree import tree_leaves

from ..layouts.adoption import resolve
from ..layouts.coordinates import positional
from ..layouts.layout import Layout
from .call import Call
from .indexing import beside

COUNTED = "is counted along: what comes before it matters"


def scan(call: Call, x: Layout, dim: int, *args: Any, **kwargs: Any) -> list[Layout]:
    """cumsum, cumprod, cummax ..."""
    dim = dim % max(x.ndim, 1)
    x = call.pin(x, COUNTED, [dim]) if x.ndim else resolve(call.units, x)
    places = positional(call.units, x.shape, (dim,) if x.ndim else ())
    return [Layout(x.shape, (*x.coordinates, *places))] * len(call.shapes)


def triangle(call: Call, x: Layout, *args: Any) -> Layout:
    """tril and triu: a constant mask over the last two axes."""
    places = positional(call.units, x.shape, (x.ndim - 2, x.ndim - 1))
    return call.merge(x, Layout(x.shape, tuple(places)))


def spectrum(call: Call, x: Layout, dim: Sequence[int], *args: Any) -> Layout:
    """Fourier transforms: along ``dim`` every place depends on every other, each in its way."""
    dims = tuple(d % x.ndim for d in dim)
    rest = beside(call, resolve(call.units, x), dims)
    return Layout(call.shape, (*rest.coordinates, *positional(call.units, call.shape, dims)))


def counted(call: Call, *args: Any, **kwargs: Any) -> Layout:
    """Histograms: how often a value occurs, or the sum of weights there, whatever the order."""
    met = call.merge(*(x for x in args if isinstance(x, Layout)))
    call.reduce(met, range(met.ndim))
    return Layout(call.shape, tuple(positional(call.units, call.shape)))


def sorted_into(call: Call, bounds: Layout, x: Any, *args: Any, **kwargs: Any) -> Layout:
    """``searchsorted``: each value's place among bounds that stay where they are."""
    call.pin(bounds, "holds the bounds that values are sorted into")
    if not isinstance(x, Layout) or bounds.ndim > 1:
        return call.pinned(*(o for o in (x, bounds) if isinstance(o, Layout)))[0]
    return Layout(call.shape, resolve(call.units, x).coordinates)


def bucketed(call: Call, x: Any, bounds: Layout, *args: Any, **kwargs: Any) -> Layout:
    return sorted_into(call, bounds, x)


def restrided(
    call: Call, x: Layout, size: Sequence[int], stride: Sequence[int], offset: int | None = None
) -> Layout:
    """``as_strided``, where it leaves everything in place: pooling to one value ends in one."""
    expected, step = [], 1
    for n in reversed(x.shape):
        expected.append(step)
        step *= n
    told = zip(x.shape, stride, reversed(expected), strict=False)
    if tuple(size) != x.shape or offset or any(n > 1 and a != b for n, a, b in told):
        return call.pinned(x)[0]
    return Layout(x.shape, x.coordinates, x.parameter)


def unfollowed(call: Call, *args: Any, **kwargs: Any) -> Sequence[Layout]:
    """Ops that have as many results as the values decide."""
    operands = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Layout)]
    return call.pinned(*operands, reason=f"{call.op} chooses places by their values")
