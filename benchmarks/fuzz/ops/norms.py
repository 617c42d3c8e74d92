"""Norms, affine and not, as modules and written out, and softmax over features."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.fuzz.ops.registry import (
    Arguments,
    Call,
    Shape,
    axis,
    by_division,
    by_divisor,
    channels,
    channels_last,
    channels_second,
    odd,
    op,
)


def has_places(shape: Shape) -> list[Arguments]:
    """Both ways of instance norm, where there is more than one position to take it over."""
    places = math.prod(shape) // channels(shape)
    return [(False,), (True,)] if len(shape) > 1 and places > 1 else []


@op()
def batch_norm(shape: Shape) -> nn.Module:
    kind = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
    return channels_second(shape, kind(channels(shape)))


@op(lambda shape: [(True,), (False,)])
def layer_norm(shape: Shape, affine: bool) -> nn.Module:
    return channels_last(shape, nn.LayerNorm(channels(shape), elementwise_affine=affine))


@op(lambda shape: [()] if len(shape) > 1 else [])
def layer_norm_of_all(shape: Shape) -> nn.Module:
    """One norm over channels and positions."""
    return nn.LayerNorm(shape)


@op(lambda shape: [(g, affine) for (g,) in by_divisor(shape) for affine in (True, False)])
def group_norm(shape: Shape, groups: int, affine: bool) -> nn.Module:
    return channels_second(shape, nn.GroupNorm(groups, channels(shape), affine=affine))


@op(has_places)
def instance_norm(shape: Shape, stored: bool) -> nn.Module:
    kind = nn.InstanceNorm2d if len(shape) == 3 else nn.InstanceNorm1d
    layer = kind(channels(shape), affine=not stored, track_running_stats=stored)
    return channels_second(shape, layer)


@op(lambda shape: [("written",), ("module",)])
def rms_norm(shape: Shape, style: str) -> nn.Module:
    if style == "module":
        return channels_last(shape, nn.RMSNorm(channels(shape), eps=1e-3))

    def forward(h: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-3) * scale

    scale = nn.Parameter(torch.ones(channels(shape)))
    return channels_last(shape, Call(forward, scale=scale))


@odd(lambda shape: [(k,) for k in (2, 3)])
def local_response_norm(shape: Shape, size: int) -> nn.Module:
    if len(shape) == 1:
        return Call(lambda h: F.local_response_norm(h[:, :, None], size)[:, :, 0])
    return channels_second(shape, nn.LocalResponseNorm(size))


@odd()
def unit_length(shape: Shape) -> nn.Module:
    d = axis(shape)
    return Call(lambda h: F.normalize(h, dim=d, eps=1e-2))


@odd(by_division)
def unit_rows(shape: Shape, rows: int, columns: int) -> nn.Module:
    d = axis(shape)

    def forward(h: torch.Tensor) -> torch.Tensor:
        grid = h.unflatten(d, (rows, columns))
        return F.normalize(grid, dim=d + 1, eps=1e-2).flatten(d, d + 1)

    return Call(forward)


@odd()
def centre(shape: Shape) -> nn.Module:
    d = axis(shape)
    return Call(lambda h: h - h.mean(d, keepdim=True))


@odd(by_division)
def centre_columns(shape: Shape, rows: int, columns: int) -> nn.Module:
    d = axis(shape)

    def forward(h: torch.Tensor) -> torch.Tensor:
        h = h.unflatten(d, (rows, columns))
        return (h - h.mean(d, keepdim=True)).flatten(d, d + 1)

    return Call(forward)


@odd(lambda shape: [()] if channels(shape) >= 4 else [])
def group_norm_of_part(shape: Shape) -> nn.Module:
    """Two groups in the first half of the channels; the others stay."""
    d, half = axis(shape), channels(shape) // 4 * 2
    rest = channels(shape) - half
    norm = channels_second(shape, nn.GroupNorm(2, half))
    return Call(
        lambda h, m: torch.cat([m(h.narrow(d, 0, half)), h.narrow(d, half, rest)], d), norm=norm
    )


@op()
def softmax(shape: Shape) -> nn.Module:
    d, c = axis(shape), channels(shape)
    return Call(lambda h: c * h.softmax(d))


@odd(lambda shape: [(r, c, k) for r, c in by_division(shape) for k in (0, 1)])
def softmax_of_grid(shape: Shape, rows: int, columns: int, along: int) -> nn.Module:
    d = axis(shape)
    return Call(lambda h: 3 * h.unflatten(d, (rows, columns)).softmax(d + along).flatten(d, d + 1))


@odd(by_divisor)
def softmax_of_part(shape: Shape, n: int) -> nn.Module:
    d, rest = axis(shape), channels(shape) - n

    def forward(h: torch.Tensor) -> torch.Tensor:
        a, b = h.split([n, rest], d)
        return torch.cat([a.softmax(d), b], d)

    return Call(forward)
