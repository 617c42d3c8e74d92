"""Pooling: windows along the last axes of a tensor, each of which becomes one entry.

The positions of feature maps are pinned, and those of a result are new ones. Where an axis holds
units that may move, there are two more cases: an axis that is left as it is, and windows that do
not overlap, which can be exchanged, as can the entries of each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ..layouts.layout import Layout
from .call import Call, Rule
from .reduction import reduce_in_order

UNUSED = "is in no window"


def max_pool(n: int) -> Rule:
    """The rule of maxima over the last ``n`` axes, and of where they are."""

    def rule(
        call: Call,
        x: Layout,
        kernel: Sequence[int],
        stride: Sequence[int] = (),
        padding: Any = 0,
        dilation: Any = 1,
        *args: Any,
    ) -> list[Layout]:
        return _pool(call, x, n, _width_of_windows(n, kernel, stride, padding, dilation))

    return rule


def average_pool(n: int) -> Rule:
    """The rule of means over the last ``n`` axes."""

    def rule(
        call: Call,
        x: Layout,
        kernel: Sequence[int],
        stride: Sequence[int] = (),
        padding: Any = 0,
        *args: Any,
    ) -> list[Layout]:
        return _pool(call, x, n, _width_of_windows(n, kernel, stride, padding, 1))

    return rule


def adaptive_pool(n: int) -> Rule:
    """The rule of pooling to a given size along each of the last ``n`` axes."""

    def width(k: int, size: int, result: int) -> int | None:
        return size // result if result and size % result == 0 else None

    return lambda call, x, *args: _pool(call, x, n, width)


def per_axis(n: int, value: Any) -> list[int]:
    """An option of ``n`` axes, of which one number may stand for all."""
    values = [value] if isinstance(value, int) else list(value)
    return values * n if len(values) == 1 else values


def moves_along(call: Call, x: Layout, dim: int) -> bool:
    """Are there units along an axis that may move?"""
    lying = (c for c in call.resolve(x).coordinates if c.shape[dim] > 1)
    return any(not call.units.is_pinned(c).all() for c in lying)


Width = Callable[[int, int, int], int | None]
"""From the number of an axis and its sizes before and after to how many entries a window holds,
where windows lie side by side."""


def _width_of_windows(n: int, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Width:
    kernel, padding, dilation = (per_axis(n, v) for v in (kernel, padding, dilation))
    stride = per_axis(n, stride) if stride else kernel

    def width(k: int, size: int, result: int) -> int | None:
        beside = stride[k] == kernel[k] or result == 1
        spread = dilation[k] != 1 and kernel[k] != 1
        fits = kernel[k] * result <= size
        return kernel[k] if beside and fits and not padding[k] and not spread else None

    return width


def _pool(call: Call, x: Layout, n: int, width: Width) -> list[Layout]:
    x = call.resolve(x)
    pooled, ordered, moving = x, [], []
    for k, dim in enumerate(range(x.ndim - n, x.ndim)):
        size, result = x.shape[dim], call.shape[dim]
        each = width(k, size, result) if moves_along(call, x, dim) else None
        if each is None:
            ordered.append(dim)
        else:
            moving.append(dim)
            pooled = _reduce_windows(call, pooled, dim, result, each)
    pooled = reduce_in_order(call, pooled, ordered)
    values = call.merge(pooled, call.positions(call.shape, ordered))
    if not moving:
        return [values] * len(call.shapes)
    return [values, replace(values, order_of=_plane(x, n))][: len(call.shapes)]


def _reduce_windows(call: Call, x: Layout, dim: int, count: int, each: int) -> Layout:
    if each == 1 and count == x.shape[dim]:
        return x
    if each * count < x.shape[dim]:
        (used,) = call.move(x, lambda t: t.narrow(dim, 0, each * count))
        call.pin_unused(x, used, UNUSED)
        x = used
    windows = x.reshape((*x.shape[:dim], count, each, *x.shape[dim + 1 :]))
    return call.reduce(windows, [dim + 1])


def _plane(x: Layout, n: int) -> Layout:
    """The last ``n`` axes, whose entries are numbered; all of ``x`` where units lie otherwise."""
    front = tuple(range(x.ndim - n))
    lying = [c for c in x.coordinates if any(m > 1 for m in c.shape[x.ndim - n :])]
    if any(c.shape[d] > 1 for c in lying for d in front):
        return x
    return Layout(x.shape[x.ndim - n :], tuple(c.squeeze(front) for c in lying))
