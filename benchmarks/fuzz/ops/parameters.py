"""Parameters used by functions: slices of long ones, grids, mixtures, reshaped and tied weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.fuzz.ops.registry import (
    Call,
    Shape,
    axis,
    by_division,
    by_divisor,
    channels,
    channels_last,
    odd,
    op,
)


def weight(*sizes: int) -> nn.Parameter:
    return nn.Parameter(torch.ones(sizes))


def on_last(shape: Shape, forward: Callable[[Tensor, Tensor], Tensor], *sizes: int) -> nn.Module:
    """A function of a value with channels last and of one parameter."""
    return channels_last(shape, Call(forward, weight=weight(*sizes)))


@op()
def scale(shape: Shape) -> nn.Module:
    return on_last(shape, lambda h, w: h * w, channels(shape))


@op()
def bias(shape: Shape) -> nn.Module:
    d = axis(shape)
    return Call(lambda h, w: h + w, weight=weight(channels(shape), *(1,) * (len(shape) - d)))


@op()
def tied_autoencoder(shape: Shape) -> nn.Module:
    return on_last(shape, lambda h, w: F.linear(F.linear(h, w).relu(), w.t()), 6, channels(shape))


@odd(lambda shape: [(k,) for k in (0, 1, 5)])
def bias_slice(shape: Shape, start: int) -> nn.Module:
    """A parameter that is longer than what is used of it."""
    c = channels(shape)
    return on_last(shape, lambda h, w: h + w[start : start + c], c + 6)


@odd()
def bias_strided(shape: Shape) -> nn.Module:
    c = channels(shape)
    return on_last(shape, lambda h, w: h + w[1 : 2 * c : 2], 2 * c)


@odd()
def one_parameter_twice(shape: Shape) -> nn.Module:
    """Its two ends, which overlap, scale and shift."""
    c = channels(shape)
    return on_last(shape, lambda h, w: h * w[:c] + w[c // 2 : c // 2 + c], c + c // 2)


@odd(by_division)
def bias_grid(shape: Shape, rows: int, columns: int) -> nn.Module:
    return on_last(shape, lambda h, w: h + w.reshape(-1), rows, columns)


@odd(by_division)
def bias_grid_transposed(shape: Shape, rows: int, columns: int) -> nn.Module:
    return on_last(shape, lambda h, w: h + w.t().flatten(), rows, columns)


@odd(by_division)
def scale_rows(shape: Shape, rows: int, columns: int) -> nn.Module:
    return on_last(
        shape, lambda h, w: (h.unflatten(-1, (rows, columns)) * w[:, None]).flatten(-2), rows
    )


@odd(by_division)
def scale_columns(shape: Shape, rows: int, columns: int) -> nn.Module:
    return on_last(shape, lambda h, w: (h.unflatten(-1, (rows, columns)) * w).flatten(-2), columns)


@odd(by_division)
def mix_rows(shape: Shape, rows: int, columns: int) -> nn.Module:
    def forward(h: Tensor, w: Tensor) -> Tensor:
        return torch.einsum("ij,...jk->...ik", w, h.unflatten(-1, (rows, columns))).flatten(-2)

    return on_last(shape, forward, rows, rows)


@odd(by_division)
def mix_columns(shape: Shape, rows: int, columns: int) -> nn.Module:
    return on_last(
        shape, lambda h, w: (h.unflatten(-1, (rows, columns)) @ w).flatten(-2), columns, columns
    )


@odd(by_division)
def mix_both(shape: Shape, rows: int, columns: int) -> nn.Module:
    """A Kronecker product: the same parameter mixes rows, and columns after a transposition."""

    def forward(h: Tensor, w: Tensor) -> Tensor:
        h = h.unflatten(-1, (rows, columns))
        return (w @ h.tanh() + h).flatten(-2)

    return on_last(shape, forward, rows, rows)


@odd(by_division)
def grouped(shape: Shape, groups: int, each: int) -> nn.Module:
    def forward(h: Tensor, w: Tensor) -> Tensor:
        return torch.einsum("goi,...gi->...go", w, h.unflatten(-1, (groups, each))).flatten(-2)

    return on_last(shape, forward, groups, each, each)


@odd(by_division)
def reshaped_weight(shape: Shape, rows: int, columns: int) -> nn.Module:
    """A linear layer whose weight is stored as a tensor of three axes."""
    c = channels(shape)
    return on_last(shape, lambda h, w: F.linear(h, w.reshape(c, c)), rows, columns, c)


@odd()
def symmetric_weight(shape: Shape) -> nn.Module:
    c = channels(shape)
    return on_last(shape, lambda h, w: h @ (w + w.t()), c, c)


@odd()
def weight_from_outer_product(shape: Shape) -> nn.Module:
    c = channels(shape)
    return on_last(shape, lambda h, w: F.linear(h, torch.outer(w[0], w[1])) / c, 2, c)


@odd()
def softmax_weight(shape: Shape) -> nn.Module:
    """Every output is a weighted mean of the inputs."""
    c = channels(shape)
    return on_last(shape, lambda h, w: h @ w.softmax(1).t(), c, c)


@odd(by_divisor)
def codebook(shape: Shape, n: int) -> nn.Module:
    """Rows that attend softly to a parameter, which answers too."""

    def forward(h: Tensor, w: Tensor) -> Tensor:
        rows = h.unflatten(-1, (-1, n))
        return ((rows @ w.t()).softmax(-1) @ w).flatten(-2)

    return on_last(shape, forward, 5, n)


@odd()
def ramp(shape: Shape) -> nn.Module:
    """A constant that tells all channels apart."""
    c = channels(shape)
    return channels_last(shape, Call(lambda h, r: h + r, ramp=torch.linspace(-1, 1, c)))


@odd(by_divisor)
def periodic(shape: Shape, n: int) -> nn.Module:
    """A constant that tells channels apart within each period."""
    c = channels(shape)
    ramp = torch.arange(c) % n / n
    return channels_last(shape, Call(lambda h, r: h + r, ramp=ramp))
