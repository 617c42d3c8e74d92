"""Norms: entries meet the statistics of a part of their tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..layouts.layout import Layout
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
    """Running statistics have the units of the channels, as weight and bias do."""
    x = call.resolve(x)
    statistics = [s.as_parameter() if s is not None else None for s in (mean, variance)]
    others = [d for d in range(x.ndim) if d != 1]
    if training or mean is None:
        x = call.merge(x, call.reduce(x, others, keepdim=True))
    out = call.signature("n c ..., c, c, c, c -> n c ...", x, weight, bias, *statistics)
    channels = call.reduce(out, others)
    return [out, *(channels if s == channels.shape else Layout(s) for s in call.shapes[1:])]


def layer_norm(
    call: Call,
    x: Layout,
    normalized_shape: Sequence[int],
    weight: Layout | None = None,
    bias: Layout | None = None,
    *args: Any,
) -> list[Layout]:
    x = call.resolve(x)
    statistics = call.reduce(x, range(x.ndim - len(normalized_shape), x.ndim), keepdim=True)
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
    grouped = call.resolve(x).reshape((n, groups, channels // groups, *x.shape[2:]))
    statistics = call.reduce(grouped, range(2, grouped.ndim), keepdim=True)
    out = call.merge(grouped, statistics).reshape(x.shape)
    out = call.signature("n c ..., c, c -> n c ...", out, weight, bias)
    flat = statistics.reshape((n, groups))
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
    direction = call.resolve(direction)
    norms = call.reduce(direction, others, keepdim=True)
    return call.merge(direction, norms, magnitude), norms
