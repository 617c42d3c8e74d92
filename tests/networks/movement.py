"""Slices, concatenations and other ops that move hidden units to other places."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .parts import Apply, around
from .registry import FLAT, S, f, network, wr


@network(FLAT, f(4) + f(2), S(4, 2))
class SlicedByPosition(nn.Module):
    """The first four hidden units and the last two go different ways."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.one, self.two = nn.Linear(3, 6), nn.Linear(4, 2), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).relu()
        return self.one(h[:, :4]) + self.two(h[:, 4:])


@network(FLAT, f(5), S(5))
class OneUnitIsTheGate(nn.Module):
    """Unit 3 multiplies the others."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).tanh()
        return self.head(h) * h[:, 3:4]


@network(FLAT, f(6), S(6))
def flipped() -> nn.Module:
    """The next layer's columns follow in the reverse order."""
    return around(lambda h: h.flip(1), 6)


@network(FLAT, f(6), S(6))
def rolled() -> nn.Module:
    return around(lambda h: torch.roll(h, 2, 1), 6)


@network(
    FLAT,
    f(3) + 2 * 3 * f(2),
    wr(3, 2, 2),
)
def added_to_their_mirror_images() -> nn.Module:
    """Pairs {k, 5-k} move as such; inside, each layer has a choice of its own."""
    return around(lambda h: h + h.flip(1), 6)


@network(
    FLAT,
    f(3) + 3 * f(2),
    wr(3, 2),
    incomplete="units that meet their mirror images move as whole pairs, never inside one",
)
def added_to_twice_their_mirror_images() -> nn.Module:
    """The permutations that commute with the reversal."""
    return around(lambda h: h + 2 * h.flip(1), 6)


@network(FLAT, 0.0, [])
def multiplied_with_their_neighbours() -> nn.Module:
    """Only rotations and reflections of the circle are left, which are no products of S_n."""
    return around(lambda h: h * h.roll(1, 1), 6)


@network(FLAT, f(6), S(6))
def concatenated_relu() -> nn.Module:
    """CReLU: both halves of the next layer's columns are the same units."""
    return around(lambda h: torch.cat([h.relu(), (-h).relu()], 1), 6, 12)


@network(FLAT, f(6) + 6 * f(3), wr(6, 3))
def repeated() -> nn.Module:
    """The three columns that read the same unit can be exchanged, too."""
    return around(lambda h: h.repeat(1, 3), 6, 18)


@network(FLAT, f(6) + 6 * f(2), wr(6, 2))
def repeated_one_by_one() -> nn.Module:
    return around(lambda h: h.repeat_interleave(2, dim=1), 6, 12)


@network(FLAT, 2 * f(4), S(4, 4))
def halves_treated_differently() -> nn.Module:
    """One producer, two activations: not one block."""

    def forward(h: Tensor) -> Tensor:
        a, b = h.chunk(2, 1)
        return torch.cat([a.relu(), b.sigmoid()], 1)

    return around(forward, 8)


@network(FLAT, f(8), S(8))
def halves_put_together_again() -> nn.Module:
    """Both halves take the same path: still one block."""
    return around(lambda h: torch.cat(h.chunk(2, 1), 1), 8)


@network(FLAT, f(8), S(8))
def halves_exchanged() -> nn.Module:
    return around(lambda h: torch.cat([h[:, 4:], h[:, :4]], 1), 8)


@network(FLAT, f(8), S(8))
def halves_treated_alike() -> nn.Module:
    """The same function of both halves, so that all eight can be exchanged."""
    return around(lambda h: torch.cat([h[:, :4].relu(), h[:, 4:].relu()], 1), 8)


@network(FLAT, f(6) + f(5), S(6, 5))
class ConcatenatedWithItsSum(nn.Module):
    """``cat([x, x + f(x)])``: two copies of one block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 6), nn.Linear(12, 2)
        self.inner = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 6))

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x).relu()
        return self.head(torch.cat([h, h + self.inner(h)], 1))


@network(FLAT, f(6), S(6))
def gated_linear_unit() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 12), nn.GLU(), nn.Linear(6, 2))


@network(FLAT, f(3), S(3))
def gated_by_neighbours() -> nn.Module:
    """Even units gate odd ones."""
    return around(lambda h: h[:, ::2] * h[:, 1::2].sigmoid(), 6, 3)


@network(FLAT, f(6), S(6))
class SwiGlu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(3, 6), nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


@network(FLAT, f(4) + 4 * f(3), wr(4, 3))
def maxout() -> nn.Module:
    """Four pieces of three units each."""
    return nn.Sequential(
        nn.Linear(3, 12), Apply(lambda h: h.view(-1, 4, 3).amax(2)), nn.Linear(4, 2)
    )


@network(FLAT, f(4) + 4 * f(3), wr(4, 3))
def maxout_with_positions() -> nn.Module:
    return nn.Sequential(
        nn.Linear(3, 12), Apply(lambda h: h.view(-1, 4, 3).max(2)[0]), nn.Linear(4, 2)
    )
