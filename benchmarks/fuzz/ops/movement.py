"""Odd movements of channels: shuffles, mirrors, slices, pieces, copies, writes to slices."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.fuzz.ops.registry import (
    WIDEST,
    Arguments,
    Call,
    Shape,
    axis,
    by_division,
    by_divisor,
    channels,
    even,
    odd,
    only,
)


def at(d: int, where: slice) -> tuple[slice, ...]:
    """The index that takes a slice of axis ``d``."""
    return (slice(None),) * d + (where,)


def pieces(shape: Shape) -> list[Arguments]:
    """Starts and lengths of slices, some of them next to each other, some not."""
    c = channels(shape)
    cuts = sorted({0, 1, c // 4, c // 3, c // 2, c - 2})
    return [(a, n) for a in cuts for n in (2, 3, 4, 6) if a >= 0 and a + n <= c]


def doubled(shape: Shape) -> list[Arguments]:
    return [()] if 2 * channels(shape) <= WIDEST else []


@odd(lambda shape: [(k,) for k in (1, 2, 3, channels(shape) // 2)])
def roll(shape: Shape, by: int) -> nn.Module:
    d = axis(shape)
    return Call(lambda h: h.roll(by, d))


@odd(lambda shape: [(r, c, k) for r, c in by_division(shape) for k in (0, 1)])
def roll_grid(shape: Shape, rows: int, columns: int, along: int) -> nn.Module:
    d = axis(shape)
    return Call(lambda h: h.unflatten(d, (rows, columns)).roll(1, d + along).flatten(d, d + 1))


@odd()
def flip(shape: Shape) -> nn.Module:
    d = axis(shape)
    return Call(lambda h: h.flip(d))


@odd(lambda shape: [(r, c, k) for r, c in by_division(shape) for k in (0, 1)])
def flip_grid(shape: Shape, rows: int, columns: int, along: int) -> nn.Module:
    d = axis(shape)
    return Call(lambda h: h.unflatten(d, (rows, columns)).flip(d + along).flatten(d, d + 1))


@odd(lambda shape: [(seed,) for seed in range(3)])
def reorder(shape: Shape, seed: int) -> nn.Module:
    """Take channels in an order that is a constant of the model."""
    d, c = axis(shape), channels(shape)
    order = torch.tensor(random.Random(seed).sample(range(c), c))
    return Call(lambda h, order: h.index_select(d, order), order=order)


@odd(lambda shape: [(k,) for k in (1, 2, 3)])
def swap_neighbours(shape: Shape, n: int) -> nn.Module:
    """Reverse every stretch of ``n + 1`` channels, with indices from a list."""
    d, c = axis(shape), channels(shape)
    order = [i // (n + 1) * (n + 1) + n - i % (n + 1) for i in range(c)]
    order = [i for i in order if i < c]
    return Call(lambda h: h[(slice(None),) * d + (order,)])


@odd(by_divisor)
def strided(shape: Shape, step: int) -> nn.Module:
    """All first channels of every group, then all second ones, each slice in the other's place."""
    d = axis(shape)
    return Call(lambda h: torch.cat([h[at(d, slice(k, None, step))] for k in range(step)], d))


@odd(pieces)
def crop(shape: Shape, start: int, n: int) -> nn.Module:
    d = axis(shape)
    return Call(lambda h: h.narrow(d, start, n))


@odd(lambda shape: [(k, n) for k in (0, 1, 3) for n in (1, 2)])
def pad(shape: Shape, before: int, after: int) -> nn.Module:
    around = [0, 0] * (len(shape) - axis(shape)) + [before, after]
    return Call(lambda h: F.pad(h, around))


@odd(pieces)
def piece_to_front(shape: Shape, start: int, n: int) -> nn.Module:
    d, c = axis(shape), channels(shape)

    def forward(h: Tensor) -> Tensor:
        middle = h.narrow(d, start, n).tanh()
        return torch.cat([middle, h.narrow(d, 0, start), h.narrow(d, start + n, c - start - n)], d)

    return Call(forward)


@odd(pieces)
def activate_piece(shape: Shape, start: int, n: int) -> nn.Module:
    d, c = axis(shape), channels(shape)

    def forward(h: Tensor) -> Tensor:
        a, b, rest = h.split([start, n, c - start - n], d)
        return torch.cat([a, b.exp().clamp(max=3.0), rest], d)

    return Call(forward)


@odd(pieces)
def write_piece(shape: Shape, start: int, n: int) -> nn.Module:
    """Write the last channels over others, in place."""
    d, c = axis(shape), channels(shape)

    def forward(h: Tensor) -> Tensor:
        out = h.clone()
        out.narrow(d, start, n).copy_(h.narrow(d, c - n, n).tanh())
        return out

    return Call(forward)


@odd(pieces)
def scatter_piece(shape: Shape, start: int, n: int) -> nn.Module:
    """Write the first channels somewhere into zeros."""
    d = axis(shape)

    def forward(h: Tensor) -> Tensor:
        out = torch.zeros_like(h)
        out.narrow(d, start, n).copy_(h.narrow(d, 0, n))
        return out + h

    return Call(forward)


@odd(lambda shape: [(k, n) for k in (0, 1) for n in (2, 3)])
def scale_slice(shape: Shape, start: int, step: int) -> nn.Module:
    d = axis(shape)

    def forward(h: Tensor) -> Tensor:
        out = h.clone()
        out[at(d, slice(start, None, step))].mul_(0.5)
        return out

    return Call(forward)


@odd(pieces)
def zero_piece(shape: Shape, start: int, n: int) -> nn.Module:
    d = axis(shape)

    def forward(h: Tensor) -> Tensor:
        out = h.clone()
        out.narrow(d, start, n).zero_()
        return out

    return Call(forward)


@odd(pieces)
def index_add(shape: Shape, start: int, n: int) -> nn.Module:
    d = axis(shape)
    index = torch.arange(start, start + n)
    return Call(lambda h, index: h.index_add(d, index, h.narrow(d, 0, n).tanh()), index=index)


@odd(even)
def mask(shape: Shape) -> nn.Module:
    """Keep every second channel, by a mask that is a constant of the model."""
    d, c = axis(shape), channels(shape)
    kept = (torch.arange(c) % 2 == 0).reshape(-1, *(1,) * (len(shape) - d))
    return Call(lambda h, kept: torch.where(kept, h, h.tanh()), kept=kept)


@odd(doubled)
def repeat(shape: Shape) -> nn.Module:
    d = axis(shape)
    return Call(lambda h: h.repeat((1,) * d + (2,) + (1,) * (len(shape) - d)))


@odd(doubled)
def repeat_interleave(shape: Shape) -> nn.Module:
    d = axis(shape)
    return Call(lambda h: h.repeat_interleave(2, d))


@odd(by_divisor)
def repeat_first(shape: Shape, n: int) -> nn.Module:
    """The first channels, expanded over the places of all."""
    d, times = axis(shape), channels(shape) // n

    def forward(h: Tensor) -> Tensor:
        sizes = (-1,) * d + (times,) + (-1,) * (len(shape) - d + 1)
        return h.narrow(d, 0, n).unsqueeze(d).expand(sizes).flatten(d, d + 1)

    return Call(forward)


@odd(by_divisor)
def interleave(shape: Shape, parts: int) -> nn.Module:
    d = axis(shape)
    return Call(lambda h: torch.stack(h.chunk(parts, d), d + 1).flatten(d, d + 1))


@odd(by_division)
def restack(shape: Shape, rows: int, columns: int) -> nn.Module:
    """Take rows apart and stack them in the opposite order, the first one changed."""
    d = axis(shape)

    def forward(h: Tensor) -> Tensor:
        unbound = h.unflatten(d, (rows, columns)).unbind(d)
        parts = [unbound[rows - 1 - k] for k in range(rows - 1)]
        return torch.stack([*parts, unbound[0].tanh()], d).flatten(d, d + 1)

    return Call(forward)


@odd(even)
def halves_swapped(shape: Shape) -> nn.Module:
    d = axis(shape)

    def forward(h: Tensor) -> Tensor:
        a, b = h.tensor_split(2, d)
        return torch.cat([b, a.tanh()], d)

    return Call(forward)


@odd(even)
def half_twice(shape: Shape) -> nn.Module:
    d = axis(shape)

    def forward(h: Tensor) -> Tensor:
        a = h.chunk(2, d)[0]
        return torch.cat([a, a.tanh()], d)

    return Call(forward)


@odd(only(1, lambda shape: [(n, s) for n in (2, 3, 4) if n <= shape[0] for s in (1, 2, n)]))
def windows(shape: Shape, n: int, step: int) -> nn.Module:
    return Call(lambda h: h.unfold(1, n, step).amax(2))
