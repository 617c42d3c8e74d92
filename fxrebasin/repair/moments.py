"""Mean and standard deviation per channel, over any number of batches.

Sums of squares would lose all digits where the mean is large against the deviation. So of every
batch the mean and the squares around it are taken, in float64, and two sets of such figures are put
together exactly:

>>> moments = Moments(1)
>>> for batch in (torch.tensor([[1e8], [1e8 + 8]]), torch.tensor([[1e8 + 16]])):
...     moments.update(batch, axis=-1)
>>> (moments.mean - 1e8).item(), round(moments.std.item(), 3)
(8.0, 6.532)

Source: Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
Variances" (1979); Welford (1962) for one value at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor

AT_ONCE = 1 << 24
"""How many numbers are widened to float64 at a time: 128 MB of them."""

NOISE = 4.0
"""How many units in the last place of its mean a constant may seem to vary, by rounding."""

QUIET = 1e-6
"""Channels whose deviation is a smaller share of the layer's root mean square do not react."""


class Moments:
    """Count, mean and sum of squared deviations per channel; all in float64."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.mean = torch.zeros(channels, dtype=torch.float64)
        self.squares = torch.zeros(channels, dtype=torch.float64)
        self.eps = torch.finfo(torch.float64).eps
        """Of the coarsest dtype that values came in."""

    def update(self, value: Tensor, axis: int) -> None:
        """Take in a batch of values.

        Args:
            value: of floating point, any shape; all axes but one count as examples.
            axis: that of the channels.
        """
        rows = value.detach().movedim(axis, 0).flatten(1)
        if not rows.shape[1]:
            return
        parts = [_moments(part) for part in rows.split(max(1, AT_ONCE // rows.shape[1]))]
        batch = Moments(len(rows))
        batch.count = rows.shape[1]
        batch.mean, batch.squares = (torch.cat(list(x)) for x in zip(*parts, strict=True))
        batch.eps = torch.finfo(value.dtype).eps
        self.add(batch)

    def add(self, other: Moments) -> None:
        """Take in what another has taken in."""
        total = self.count + other.count
        if not total:
            return
        step = other.mean - self.mean
        self.mean = self.mean + step * (other.count / total)
        shared = step.square() * (self.count * other.count / total)
        self.squares = self.squares + other.squares + shared
        self.count = total
        self.eps = max(self.eps, other.eps)

    @property
    def std(self) -> Tensor:
        """The standard deviation over all that was taken in, ``n`` in its denominator."""
        return (self.squares / max(self.count, 1)).sqrt()

    @property
    def variance(self) -> Tensor:
        """With ``n - 1`` in its denominator, as BatchNorm keeps it."""
        return self.squares / max(self.count - 1, 1)

    @property
    def is_quiet(self) -> Tensor:
        """Which channels are constant but for rounding."""
        std = self.std
        known = std[torch.isfinite(std)]
        typical = known.square().mean().sqrt() if len(known) else std.new_zeros(())
        return std <= torch.maximum(NOISE * self.eps * self.mean.abs(), QUIET * typical)


def _moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    # Some accelerators have no float64.
    wide = rows.cpu().double() if rows.device.type == "mps" else rows.double()
    mean = wide.mean(1)
    return mean.cpu(), (wide - mean[:, None]).square_().sum(1).cpu()
