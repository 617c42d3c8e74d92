"""Reductions, and what meets its own reduction again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..layouts.adoption import resolve
from ..layouts.layout import Layout
from .call import Call


def softmax(call: Call, x: Layout, dim: int, *args: Any, **kwargs: Any) -> Layout:
    x = resolve(call.units, x)
    return call.merge(x, call.reduce(x, [dim], keepdim=True)) if x.ndim else x


def reduction(
    call: Call,
    x: Layout,
    dim: Sequence[int] | int | None = None,
    keepdim: bool = False,
    **kwargs: Any,
) -> Layout:
    """sum, mean, amax, var ...: ``(x, dim, keepdim)``."""
    dims = [dim] if isinstance(dim, int) else dim
    return call.reduce(x, list(dims) if dims else range(x.ndim), keepdim=keepdim)


def comparison(call: Call, x: Layout, y: Layout) -> list[Layout]:
    """Are two tensors equal as a whole: no values matter where their shapes differ."""
    if x.shape == y.shape:
        call.reduce(call.merge(x, y), range(x.ndim))
    return [Layout(shape) for shape in call.shapes]


def with_argument(
    call: Call, x: Layout, argument: Any = 2, dim: Any = None, keepdim: bool = False, **kwargs: Any
) -> Layout:
    """Reductions with one argument before ``dim``: the order of a norm, the correction of a
    variance."""
    return reduction(call, x, dim, keepdim)


def moments(
    call: Call, x: Layout, dim: Any = None, keepdim: bool = False, **kwargs: Any
) -> list[Layout]:
    """Ops with two results that are both reductions: ``var_mean``, ``aminmax``."""
    return [reduction(call, x, dim, keepdim)] * len(call.shapes)
