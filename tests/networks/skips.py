"""Ops that move units, with a skip around them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .registry import FLAT, S, f, network, wr


class Skipped(nn.Module):
    """``Linear(3, 12)`` and a function; the head reads its result joined with what went in."""

    def __init__(self, function: Callable[[Tensor], Tensor], *, half: bool) -> None:
        super().__init__()
        self.function, self.joins_halves = function, half
        self.stem, self.head = nn.Linear(3, 12), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        h = self.function(x)
        return self.head(torch.cat([h[:, :6], x[:, 6:]], 1) if self.joins_halves else h + x)


@network(FLAT, 2 * f(3), S(3, 3))
class PairsWrittenAlternately(nn.Module):
    """Of the pairs (gated, gate) the first three reach ``head`` in pairs; of the others it sees
    what went in, at the same places. ``tail`` sees all pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head, self.tail = nn.Linear(3, 12), nn.Linear(12, 2), nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        gate = x[:, 1::2]
        pairs = torch.stack([x[:, ::2] * gate.tanh(), gate], 2).flatten(1)
        return self.head(torch.cat([pairs[:, :6], x[:, 6:]], 1)) + self.tail(pairs)


@network(FLAT, 3 * f(2), S(2, 2, 2))
def shuffled_and_gated() -> nn.Module:
    """The gated pairs are (0, 2), (4, 6), (8, 10), (1, 3), (5, 7), (9, 11), and the head sees 6 to
    11 as well: of each two pairs it sees no unit, the gate, or both."""
    return Skipped(lambda h: F.glu(h.view(-1, 3, 4).transpose(1, 2).flatten(1), 1), half=True)


@network(
    FLAT,
    f(3) + f(2) + 3 * f(2),
    [*wr(3, 2), *S(2)],
    incomplete="units that are left out where entries are chosen are pinned",
)
def gram_matrix_of_columns_repeated() -> nn.Module:
    """Three columns; of the four rows the head sees the first, twice, and the last two as they
    went in. The two inputs of the head that are the same number can be exchanged as well."""

    def forward(h: Tensor) -> Tensor:
        h = h.view(-1, 4, 3)
        return (h @ (h.transpose(1, 2) @ h)).flatten(1)[:, :6].repeat_interleave(2, 1)

    return Skipped(forward, half=True)


@network(
    FLAT,
    f(4) + math.log(3),
    S(4),
    incomplete="rows that can only be shifted in a circle are no block",
)
def gram_matrix_of_rows_shifted() -> nn.Module:
    """Four columns. Rows are added to the ones before them: all three can be shifted."""

    def forward(h: Tensor) -> Tensor:
        h = h.view(-1, 3, 4)
        return (h @ h.transpose(1, 2) @ h).roll(1, 1).flatten(1)

    return Skipped(forward, half=False)


@network(FLAT, f(4) + 2 * f(2), S(4, 2, 2))
def shifted_and_folded() -> nn.Module:
    """Sums 11 + 10, 0 + 9, 1 + 8, 2 + 7, 3 + 6 and 4 + 5; the head sees 6 to 11 as well."""

    def forward(h: Tensor) -> Tensor:
        h = h.roll(1, 1)
        return h[:, :6] + h[:, 6:].flip(1)

    return Skipped(forward, half=True)
