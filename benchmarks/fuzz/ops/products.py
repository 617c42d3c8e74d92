"""Channels that meet channels: products, Gram matrices, mirrors that are added, reductions."""

from __future__ import annotations

import torch
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


def letters(shape: Shape) -> tuple[str, str]:
    """The axes before and after the channels, as einsum names them."""
    return {1: ("n", ""), 2: ("nt", ""), 3: ("n", "hw")}[len(shape)]


def squares(shape: Shape) -> list[Arguments]:
    """Rows and columns of a grid inside the channels, of which a Gram matrix is made."""
    c = channels(shape)
    return [(r, k) for r in (2, 3, 4) for k in (2, 3, 4) if r * k <= c]


@odd()
def outer_sum(shape: Shape) -> nn.Module:
    """Every channel with every other, summed over the others."""
    d, (a, b), c = axis(shape), letters(shape), channels(shape)
    text = f"{a}i{b},{a}j{b}->{a}ij{b}"
    return Call(lambda h: torch.einsum(text, h, h.tanh()).sum(d + 1) / c)


@odd(squares)
def outer_product(shape: Shape, m: int, n: int) -> nn.Module:
    """The first channels with those after them."""
    d, (a, b), c = axis(shape), letters(shape), channels(shape)
    text = f"{a}i{b},{a}j{b}->{a}ij{b}"
    second = min(m, c - n)
    return Call(
        lambda h: torch.einsum(text, h.narrow(d, 0, m), h.narrow(d, second, n)).flatten(d, d + 1)
    )


@odd(by_divisor)
def outer_difference(shape: Shape, n: int) -> nn.Module:
    d, times = axis(shape), channels(shape) // n

    def forward(h: Tensor) -> Tensor:
        first, last = h.narrow(d, 0, n), h.narrow(d, channels(shape) - times, times)
        return (first.unsqueeze(d + 1) - last.unsqueeze(d)).tanh().flatten(d, d + 1)

    return Call(forward)


@odd(squares)
def gram(shape: Shape, rows: int, columns: int) -> nn.Module:
    d, (a, b) = axis(shape), letters(shape)
    text = f"{a}ik{b},{a}jk{b}->{a}ij{b}"

    def forward(h: Tensor) -> Tensor:
        grid = h.narrow(d, 0, rows * columns).unflatten(d, (rows, columns))
        return torch.einsum(text, grid, grid).flatten(d, d + 1) / columns

    return Call(forward)


@odd(by_division)
def gram_times(shape: Shape, rows: int, columns: int) -> nn.Module:
    """Rows mixed by how alike they are: attention without weights."""
    d, (a, b) = axis(shape), letters(shape)
    text = f"{a}ik{b},{a}jk{b},{a}jm{b}->{a}im{b}"

    def forward(h: Tensor) -> Tensor:
        grid = h.unflatten(d, (rows, columns))
        return torch.einsum(text, grid.tanh(), grid.tanh(), grid).flatten(d, d + 1) / rows

    return Call(forward)


@odd(by_division)
def row_products(shape: Shape, rows: int, columns: int) -> nn.Module:
    d, (a, b) = axis(shape), letters(shape)
    text = f"{a}ik{b},{a}jk{b}->{a}ik{b}"

    def forward(h: Tensor) -> Tensor:
        grid = h.unflatten(d, (rows, columns))
        return torch.einsum(text, grid, grid.tanh()).flatten(d, d + 1) / rows

    return Call(forward)


@odd(only(2))
def covariance(shape: Shape) -> nn.Module:
    """Channels mixed by their covariance over the tokens."""
    return Call(lambda h: h @ (h.tanh().mT @ h.tanh()) / shape[0] / shape[1] ** 0.5)


@odd()
def mirror(shape: Shape) -> nn.Module:
    d = axis(shape)
    return Call(lambda h: h + h.flip(d))


@odd()
def mirror_gate(shape: Shape) -> nn.Module:
    d = axis(shape)
    return Call(lambda h: h * h.sigmoid().flip(d))


@odd(lambda shape: [(k,) for k in (1, 3)])
def rolled_gate(shape: Shape, by: int) -> nn.Module:
    d = axis(shape)
    return Call(lambda h: h * h.roll(by, d).sigmoid())


@odd(by_division)
def mirror_rows(shape: Shape, rows: int, columns: int) -> nn.Module:
    d = axis(shape)

    def forward(h: Tensor) -> Tensor:
        grid = h.unflatten(d, (rows, columns))
        return (grid + grid.flip(d).tanh()).flatten(d, d + 1)

    return Call(forward)


@odd(even)
def mirror_half(shape: Shape) -> nn.Module:
    d = axis(shape)

    def forward(h: Tensor) -> Tensor:
        a, b = h.chunk(2, d)
        return torch.cat([a + b.flip(d), b], d)

    return Call(forward)


@odd(by_division)
def transpose_added(shape: Shape, rows: int, columns: int) -> nn.Module:
    """Channels as a grid, plus the same channels as the transposed grid."""
    d = axis(shape)

    def forward(h: Tensor) -> Tensor:
        turned = h.unflatten(d, (columns, rows)).transpose(d, d + 1)
        return (h.unflatten(d, (rows, columns)) + turned.tanh()).flatten(d, d + 1)

    return Call(forward)


@odd(lambda shape: [(k,) for k in (2, 3) if k * k <= channels(shape)])
def symmetrised(shape: Shape, side: int) -> nn.Module:
    """A square of channels plus its transposition; the others stay."""
    d, c = axis(shape), channels(shape)

    def forward(h: Tensor) -> Tensor:
        a, rest = h.split([side * side, c - side * side], d)
        square = a.unflatten(d, (side, side))
        return torch.cat([(square + square.transpose(d, d + 1)).flatten(d, d + 1), rest], d)

    return Call(forward)


@odd(even)
def ordered_pairs(shape: Shape) -> nn.Module:
    d = axis(shape)

    def forward(h: Tensor) -> Tensor:
        a, b = h.chunk(2, d)
        return torch.cat([torch.minimum(a, b), torch.maximum(a, b)], d)

    return Call(forward)


@odd(even)
def complex_product(shape: Shape) -> nn.Module:
    d = axis(shape)

    def forward(h: Tensor) -> Tensor:
        a, b = h.chunk(2, d)
        return torch.cat([a * b.tanh() - b, a + b * a.tanh()], d)

    return Call(forward)


@odd(even)
def neighbours(shape: Shape) -> nn.Module:
    """Even channels times odd ones, between the odd ones."""
    d = axis(shape)

    def forward(h: Tensor) -> Tensor:
        pairs = h.unflatten(d, (-1, 2)).unbind(d + 1)
        return torch.stack([pairs[0] * pairs[1].tanh(), pairs[1]], d + 1).flatten(d, d + 1)

    return Call(forward)


@odd(lambda shape: [(r, c, f) for r, c in by_division(shape) for f in ("sum", "amax", "logsumexp")])
def reduced_rows(shape: Shape, rows: int, columns: int, how: str) -> nn.Module:
    """Sums of the rows beside the channels that they were taken of."""
    d = axis(shape)

    def forward(h: Tensor) -> Tensor:
        sums = getattr(h.unflatten(d, (rows, columns)), how)(d + 1)
        return torch.cat([sums, h], d)

    return Call(forward)


@odd(by_divisor)
def sum_of_part(shape: Shape, n: int) -> nn.Module:
    """The first channels weighted by the sum of all."""
    d = axis(shape)
    return Call(lambda h: h.narrow(d, 0, n) * h.sum(d, keepdim=True).tanh())


@odd(lambda shape: [()] if 2 * channels(shape) <= WIDEST else [])
def signs_apart(shape: Shape) -> nn.Module:
    d = axis(shape)
    return Call(lambda h: torch.cat([h.relu(), (-h).relu()], d))


@odd(only(1, lambda shape: [(k,) for k in (2, 3) if k <= channels(shape)]))
def pooled_channels(shape: Shape, size: int) -> nn.Module:
    """Neighbouring channels are averaged as if they were positions."""
    return Call(lambda h: nn.functional.avg_pool1d(h[:, None], size, 1)[:, 0])


@odd()
def running_sum(shape: Shape) -> nn.Module:
    d, c = axis(shape), channels(shape)
    return Call(lambda h: h.cumsum(d) / c**0.5)


@odd(lambda shape: [(n,) for n in (3, 6) if n <= channels(shape)])
def largest(shape: Shape, n: int) -> nn.Module:
    d = axis(shape)
    return Call(lambda h: h.topk(n, d)[0])


@odd()
def sorted_channels(shape: Shape) -> nn.Module:
    d = axis(shape)
    return Call(lambda h: h.sort(d)[0])


@odd()
def spectrum(shape: Shape) -> nn.Module:
    """Magnitudes of frequencies, of which the analysis need not know anything."""
    d, c = axis(shape), channels(shape)
    return Call(lambda h: torch.view_as_real(torch.fft.rfft(h, dim=d)).norm(dim=-1) / c**0.5)
