"""Norms, softmax and reductions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..layouts.adoption import resolve
from ..layouts.layout import Layout, reshape
from ..layouts.primitives import drop_dims, reduce
from .call import Call


def batch_norm(
    call: Call,
    x: Layout,
    weight: Layout | None,
    bias: Layout | None,
    mean: Layout | None,
    variance: Layout | None,
    training: bool = False,
    *args: Any,
) -> list[Layout]:
    """Running statistics are units of the channels, as weight and bias are."""
    x = resolve(call.units, x)
    statistics = [s.as_parameter() if s is not None else None for s in (mean, variance)]
    if training or mean is None:
        others = tuple(d for d in range(x.ndim) if d != 1)
        x = call.merge(x, call.reduce(x, others, keepdim=True))
    out = call.signature("n c ..., c, c, c, c -> n c ...", x, weight, bias, *statistics)
    channels = reduce(call.units, out, tuple(d for d in range(x.ndim) if d != 1))
    return [out, *(channels if s == channels.shape else Layout(s) for s in call.shapes[1:])]


def layer_norm(
    call: Call,
    x: Layout,
    normalized_shape: Sequence[int],
    weight: Layout | None = None,
    bias: Layout | None = None,
    *args: Any,
) -> list[Layout]:
    x = resolve(call.units, x)
    dims = tuple(range(x.ndim - len(normalized_shape), x.ndim))
    statistics = call.reduce(x, dims, keepdim=True)
    affine = [p for p in (weight, bias) if p is not None]
    out = call.merge(x, statistics, *affine)
    return [out, statistics, statistics][: len(call.shapes)]


def group_norm(
    call: Call,
    x: Layout,
    weight: Layout | None,
    bias: Layout | None,
    n: int,
    channels: int,
    positions: int,
    groups: int,
    eps: float,
) -> list[Layout]:
    shape = x.shape
    grouped = reshape(resolve(call.units, x), (n, groups, channels // groups, *shape[2:]))
    statistics = call.reduce(grouped, range(2, grouped.ndim), keepdim=True)
    out = reshape(call.merge(grouped, statistics), shape)
    out = call.signature("n c ..., c, c -> n c ...", out, weight, bias)
    flat = drop_dims(statistics, set(range(2, grouped.ndim)))
    return [out, flat, flat]


def rms_norm(
    call: Call,
    x: Layout,
    normalized_shape: Sequence[int],
    weight: Layout | None = None,
    *args: Any,
) -> list[Layout]:
    return layer_norm(call, x, normalized_shape, weight)


def weight_norm(
    call: Call, direction: Layout, magnitude: Layout, dim: int = 0
) -> tuple[Layout, Layout]:
    others = [d for d in range(direction.ndim) if d != dim % direction.ndim]
    direction = resolve(call.units, direction)
    norms = call.reduce(direction, others, keepdim=True)
    return call.merge(direction, norms, magnitude), norms
