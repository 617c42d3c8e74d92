"""Positions: pooling, resizing, pixel shuffles, tokens from images and back."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.fuzz.ops.registry import (
    LARGEST,
    WIDEST,
    Arguments,
    Call,
    Options,
    Shape,
    channels,
    divisions,
    divisors,
    odd,
    only,
    op,
)

POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "avg": lambda h: F.avg_pool2d(h, 2, ceil_mode=True),
    "max": lambda h: F.max_pool2d(h, 2, ceil_mode=True),
    "smooth": lambda h: F.avg_pool2d(h, 3, 1, 1),
    "adaptive": lambda h: F.adaptive_avg_pool2d(h, 2),
    "adaptive_max": lambda h: F.adaptive_max_pool2d(h, 3),
    "l2": lambda h: F.lp_pool2d(h.abs() + 0.1, 2, 2, ceil_mode=True),
}


def larger(shape: Shape) -> bool:
    return 2 * max(shape[1:]) <= LARGEST


def upsamplings(shape: Shape) -> list[Arguments]:
    """Output channels and groups."""
    groups = (1, *divisors(channels(shape))) if larger(shape) else ()
    return [(n, g) for n in (6, 12) for g in groups if n % g == 0]


def if_(condition: bool) -> list[Arguments]:
    return [()] if condition else []


@op(only(3, lambda shape: [(name,) for name in POOLS]))
def pool(shape: Shape, name: str) -> nn.Module:
    return Call(POOLS[name])


def sizes(modes: tuple[str, ...]) -> Options:
    return only(3, lambda shape: [(n, n, mode) for n in (3, 4, 6) for mode in modes])


@op(sizes(("nearest", "bilinear", "bicubic", "area")))
def resize(shape: Shape, height: int, width: int, mode: str) -> nn.Module:
    return Call(lambda h: F.interpolate(h, (height, width), mode=mode))


@op(only(3, lambda shape: if_(channels(shape) % 4 == 0 and larger(shape))))
def pixel_shuffle(shape: Shape) -> nn.Module:
    return nn.PixelShuffle(2)


@op(only(3, lambda shape: if_(4 * channels(shape) <= WIDEST and not any(n % 2 for n in shape[1:]))))
def pixel_unshuffle(shape: Shape) -> nn.Module:
    return nn.PixelUnshuffle(2)


@op(only(3, lambda shape: [(n, s) for n in (6, 12) for s in (1, 2)]))
def strided_conv(shape: Shape, n: int, dilation: int) -> nn.Module:
    return nn.Conv2d(channels(shape), n, 3, stride=2, padding=2, dilation=dilation)


@op(only(3, upsamplings))
def upsampling_conv(shape: Shape, n: int, groups: int) -> nn.Module:
    return nn.ConvTranspose2d(channels(shape), n, 2, stride=2, groups=groups)


@op(only(3))
def spatial_gate(shape: Shape) -> nn.Module:
    """One attention map for all channels, from their mean and their maximum (CBAM)."""

    def forward(h: Tensor, m: nn.Module) -> Tensor:
        seen = torch.cat([h.mean(1, keepdim=True), h.amax(1, keepdim=True)], 1)
        return h * m(seen).sigmoid()

    return Call(forward, layer=nn.Conv2d(2, 1, 3, padding=1))


@op(only(2, lambda shape: [(n,) for n in (6, 8)]))
def token_mixing(shape: Shape, hidden: int) -> nn.Module:
    layers = nn.Sequential(nn.Linear(shape[0], hidden), nn.GELU(), nn.Linear(hidden, shape[0]))
    return Call(lambda h, m: m(h.transpose(1, 2)).transpose(1, 2), layers=layers)


@op(only(2))
def positions(shape: Shape) -> nn.Module:
    return Call(lambda h, p: h + p, embedding=nn.Parameter(torch.zeros(1, *shape)))


@op(only(2, lambda shape: if_(shape[0] < 12)), outer=True)
def class_token(shape: Shape) -> nn.Module:
    token = nn.Parameter(torch.zeros(1, 1, channels(shape)))
    return Call(lambda h, t: torch.cat([t.expand(h.shape[0], -1, -1), h], 1), token=token)


@op(only(2, lambda shape: if_(shape[0] % 2 == 0 and 2 * shape[1] <= WIDEST)), outer=True)
def merge_tokens(shape: Shape) -> nn.Module:
    """Every second token beside the one before it, as in patch merging."""
    return Call(lambda h: torch.cat([h[:, ::2], h[:, 1::2]], 2))


@op(only(2, lambda shape: [(k,) for k in range(shape[0])][:2]), outer=True)
def one_token(shape: Shape, k: int) -> nn.Module:
    return Call(lambda h: h[:, k])


@op(only(2, lambda shape: [("mean",), ("amax",), ("sum",)]), outer=True)
def pool_tokens(shape: Shape, how: str) -> nn.Module:
    return Call(lambda h: getattr(h, how)(1))


@op(only(3, lambda shape: [("mean",), ("amax",)]), outer=True)
def global_pool(shape: Shape, how: str) -> nn.Module:
    return Call(lambda h: getattr(h, how)((2, 3)))


@op(only(3), outer=True)
def to_tokens(shape: Shape) -> nn.Module:
    return Call(lambda h: h.flatten(2).transpose(1, 2))


@op(lambda shape: if_(len(shape) > 1 and torch.Size(shape).numel() <= WIDEST), outer=True)
def flatten(shape: Shape) -> nn.Module:
    return nn.Flatten()


@op(only(1, lambda shape: divisions(channels(shape))), outer=True)
def fold_to_tokens(shape: Shape, rows: int, columns: int) -> nn.Module:
    return Call(lambda h: h.reshape(h.shape[0], rows, columns))


@op(only(1, lambda shape: [(k, 2) for k in (2, 3, 6) if shape[0] == 4 * k]), outer=True)
def fold_to_image(shape: Shape, count: int, side: int) -> nn.Module:
    return Call(lambda h: h.view(h.shape[0], count, side, side))


@odd(only(3, lambda shape: [()] if 9 * shape[0] <= 2 * WIDEST else []))
def patches(shape: Shape) -> nn.Module:
    """Each channel's neighbourhood as channels, by im2col."""
    _, height, width = shape
    return Call(lambda h: F.unfold(h, 3, padding=1).unflatten(2, (height, width)) / 3)


@odd(only(3))
def transpose_places(shape: Shape) -> nn.Module:
    return Call(lambda h: h.transpose(2, 3))


@odd(only(2, lambda shape: [(k,) for k in (1, 2)]))
def token_shift(shape: Shape, by: int) -> nn.Module:
    """Half of the channels come from the token before."""
    half = shape[1] // 2
    return Call(lambda h: torch.cat([h[:, :, :half].roll(by, 1), h[:, :, half:]], 2))
