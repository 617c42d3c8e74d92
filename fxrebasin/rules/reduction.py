"""Reductions, and what meets its own reduction again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..layouts.layout import Layout
from .call import Call


def reduce(
    call: Call,
    x: Layout,
    dim: Sequence[int] | int | None = None,
    keepdim: bool = False,
    **kwargs: Any,
) -> Layout:
    """``sum``, ``mean``, ``amax``, ``var`` and others."""
    dims = [dim] if isinstance(dim, int) else dim
    return call.reduce(x, list(dims) if dims else range(x.ndim), keepdim=keepdim)


def reduce_in_order(call: Call, x: Layout, dims: Sequence[int]) -> Layout:
    """A reduction over ``dims`` to size 1 in which every position plays a part of its own.

    Units along ``dims`` are pinned by that; along all other dims they go through.
    """
    placed = call.merge(call.resolve(x), call.positions(x.shape, dims))
    return call.reduce(placed, dims, keepdim=True)


def reduce_twice(
    call: Call, x: Layout, dim: Any = None, keepdim: bool = False, **kwargs: Any
) -> list[Layout]:
    """Ops with two results that are both reductions: ``var_mean``, ``aminmax``."""
    return [reduce(call, x, dim, keepdim)] * len(call.shapes)


def norm(
    call: Call, x: Layout, order: Any = 2, dim: Any = None, keepdim: bool = False, **kwargs: Any
) -> Layout:
    """Reductions with an argument of their own before ``dim``."""
    return reduce(call, x, dim, keepdim)


def loss(call: Call, *args: Any, **kwargs: Any) -> Layout:
    """Losses that compare entry by entry; a sum or a mean of them has no dims."""
    met = call.merge(*(x for x in (*args, *kwargs.values()) if isinstance(x, Layout)))
    return met if met.shape == call.shape else call.reduce(met, range(met.ndim))


def renorm(call: Call, x: Layout, order: Any, dim: int, *args: Any) -> Layout:
    """Every slice along ``dim`` meets its own norm."""
    others = [d for d in range(x.ndim) if d != dim % x.ndim]
    return call.merge(x, call.reduce(x, others, keepdim=True))


def equal(call: Call, x: Layout, y: Layout) -> list[Layout]:
    """Are two tensors equal as a whole? Where their shapes differ, their values do not matter."""
    if x.shape == y.shape:
        call.pin(call.reduce(call.merge(x, y), range(x.ndim)), "its values are read")
    return [Layout(shape) for shape in call.shapes]


def softmax(call: Call, x: Layout, dim: int, *args: Any, **kwargs: Any) -> Layout:
    return call.merge(x, call.reduce(x, [dim], keepdim=True)) if x.ndim else x
