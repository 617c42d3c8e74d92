"""Assignment problems in integers, and column prices to start from.

Shortest paths are only safe in arithmetic that is exact: rounding makes cycles of length zero look
negative. So each matrix of a batch is shifted and scaled to integers, once, and everything after
that is exact.

Gains take 59 of 64 bits, which leaves room for sums of prices. Float64 has no finer steps to offer,
so there is nothing to refine afterwards; 32 bits would halve the memory traffic, but then need
further rounds on finer scales. The lowest bits are random: rows that are alike (dead units,
duplicates) would otherwise be matched one at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

GAIN_BITS = 59
TIE_BITS = 4
MASKED = -(2**62)
"""Less than every gain net of prices."""

SINKHORN_TEMPERATURES = [0.05 ** (k / 19) for k in range(20)]
AUCTION_ROUNDS = 4
AUCTION_INCREMENT = 0.02
"""Temperatures and increment are in standard deviations of the gains."""


@dataclass(frozen=True)
class FixedPointProblems:
    """A batch of matrices as integers: ``costs`` is about ``gains * unit`` plus a constant.

    Args:
        gains: shape ``(b, n, n)``, int64, from 0 to ``2**GAIN_BITS``.
        unit: what one is worth, shape ``(b,)``, float64; 0 for a constant matrix.
    """

    gains: Tensor
    unit: Tensor

    def to_prices(self, integers: Tensor) -> Tensor:
        """Prices in the scale of the costs, shape ``(b, n)``, float64."""
        return integers.double() * self.unit[:, None]

    def from_prices(self, prices: Tensor) -> Tensor:
        """The nearest integer prices from 0 to ``2**GAIN_BITS``, up to a constant per problem."""
        unit = self.unit.clamp(min=torch.finfo(torch.float64).tiny)
        above = prices.double() - prices.double().amin(1, keepdim=True)
        return (above / unit[:, None]).clamp(max=2.0**GAIN_BITS).long()


def fixed_point(costs: Tensor) -> FixedPointProblems:
    """Shift and scale each matrix of ``(b, n, n)`` finite numbers to the range of the integers.

    The scale is a power of two. What is lost, with the random bits, is less than ``2**-52`` of the
    range of the matrix per entry: half of it the rounding of float64 when the least entry is
    subtracted, which is exact for float32 of similar magnitude.

    >>> problems = fixed_point(torch.tensor([[[1.0, 2.0], [2.0, 5.0]]]))
    >>> problems.to_prices(problems.gains[:, 0]).round(decimals=12).tolist()
    [[0.0, 1.0]]
    """
    scaled = costs.double()
    magnitude = _power_of_two_below(scaled.abs().amax((1, 2)))
    scaled = scaled / magnitude[:, None, None]
    scaled -= scaled.amin((1, 2), keepdim=True)
    spread = scaled.amax((1, 2))
    half = _power_of_two_below(spread)
    scaled *= (2.0 ** (GAIN_BITS - TIE_BITS - 1) / half)[:, None, None]
    n = costs.shape[-1]
    generator = torch.Generator(costs.device).manual_seed(0)
    ties = torch.randint(2**TIE_BITS, (n, n), generator=generator, device=costs.device)
    unit = magnitude * half * 2.0 ** (1 - GAIN_BITS)
    gains = scaled.round_().long().bitwise_left_shift_(TIE_BITS).add_(ties)
    return FixedPointProblems(gains, torch.where(spread > 0, unit, 0.0))


def _power_of_two_below(numbers: Tensor) -> Tensor:
    """Within a factor of two of a number, and 1 for 0."""
    mantissa, _ = torch.frexp(numbers)
    return torch.where(numbers > 0, numbers / (2 * mantissa), 1.0)


def inverse(columns: Tensor) -> Tensor:
    """The row of each column for the column of each row, shape ``(b, n)``; -1 means none."""
    b, n = columns.shape
    rows = torch.arange(n, device=columns.device).expand(b, n)
    found = torch.full((b, n + 1), -1, device=columns.device)
    return found.scatter_(1, torch.where(columns < 0, n, columns), rows)[:, :n]


def starting_prices(problems: FixedPointProblems, prices: Tensor | None) -> Tensor:
    """Integer column prices under which few rows want the same column, shape ``(b, n)``.

    Without prices to begin with, Sinkhorn's iteration finds some: it balances a softened
    assignment, ever less soft. A few rounds of an auction then settle the closest conflicts.

    Source: M. Cuturi, "Sinkhorn distances" (2013), for the first; D. P. Bertsekas, "The auction
    algorithm" (1988), for the second.
    """
    gains = problems.gains
    relative = gains.float() * 2.0**-GAIN_BITS
    deviation = relative.std((1, 2)).clamp(min=2.0**-GAIN_BITS)
    if prices is None:
        centred = relative - relative.mean((1, 2), keepdim=True)
        found = _sinkhorn(centred / deviation[:, None, None]) * deviation[:, None]
        start = (found - found.amin(1, keepdim=True)).clamp(max=1.0)
        integers = (start.double() * 2.0**GAIN_BITS).long()
    else:
        integers = problems.from_prices(prices)
    increment = (deviation.double() * (AUCTION_INCREMENT * 2.0**GAIN_BITS)).long()
    integers = _auction(gains, integers, increment)
    return (integers - integers.amin(1, keepdim=True)).clamp(max=2**GAIN_BITS)


def _sinkhorn(gains: Tensor) -> Tensor:
    """Prices for gains of unit deviation, one iteration for each temperature."""
    prices = gains.new_zeros(gains.shape[0], gains.shape[2])
    for temperature in SINKHORN_TEMPERATURES:
        softened = torch.softmax((gains - prices[:, None]) / temperature, dim=2)
        prices += temperature * softened.sum(1).clamp(min=1e-20).log()
    return prices


def _auction(gains: Tensor, prices: Tensor, increment: Tensor) -> Tensor:
    """Prices after rounds in which every row without a column bids for the one it likes best."""
    nothing = torch.full_like(prices, -1)
    row_of = nothing
    for _ in range(AUCTION_ROUNDS):
        bidding = inverse(row_of) < 0
        net = gains - prices[:, None]
        best, wanted = net.max(2)
        second = net.scatter_(2, wanted[:, :, None], MASKED).amax(2)
        bids = prices.gather(1, wanted) + best - second + increment[:, None]
        bids = torch.where(bidding, bids, MASKED)
        highest = torch.full_like(prices, MASKED).scatter_reduce(1, wanted, bids, "amax")
        won = bidding & (bids == highest.gather(1, wanted))
        rows = torch.arange(gains.shape[1], device=gains.device)
        winner = nothing.scatter_reduce(1, wanted, torch.where(won, rows, -1), "amax")
        row_of = torch.where(winner < 0, row_of, winner)
        prices = torch.where(winner < 0, prices, highest)
    return prices
