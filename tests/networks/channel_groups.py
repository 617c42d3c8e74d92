"""Channels in groups: grouped, depthwise and transposed convolutions, and shuffles."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .parts import around2d
from .registry import IMAGE, S, f, network, wr


@network(IMAGE, f(4) + 4 * f(2) + 4 * f(3), wr(4, 2, 3))
def grouped_convolution() -> nn.Module:
    return around2d(nn.Conv2d(8, 12, 3, groups=4), n=8, m=12)


@network(IMAGE, f(6), S(6))
def depthwise_convolution() -> nn.Module:
    return around2d(nn.Conv2d(6, 6, 3, groups=6), nn.BatchNorm2d(6), n=6, m=6)


@network(IMAGE, f(6) + 6 * f(2), wr(6, 2))
def depthwise_convolution_with_multiplier() -> nn.Module:
    return around2d(nn.Conv2d(6, 12, 3, groups=6), n=6, m=12)


@network(
    IMAGE,
    f(2) + 2 * (f(4) + f(2) + 2 * (f(2) + f(2))),
    [*wr(2, 4, 2), (2, 4, 2), (2, 4, 2)],
)
def grouped_convolutions_in_a_row() -> nn.Module:
    """Two groups, each of which feeds two of four groups: three levels."""
    return around2d(nn.Conv2d(8, 8, 1, groups=2), nn.Tanh(), nn.Conv2d(8, 8, 1, groups=4), n=8, m=8)


@network(IMAGE, f(2) + 2 * f(4) + 2 * f(3), wr(2, 4, 3))
class WeightStandardisation(nn.Module):
    """The weight of a grouped convolution is normalised per output channel before it is used."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(6, 2, 1)
        self.weight = nn.Parameter(torch.randn(6, 4, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        weight = (self.weight - mean) / self.weight.std((1, 2, 3), keepdim=True)
        return self.head(F.conv2d(self.stem(x).tanh(), weight, groups=2).tanh())


@network(IMAGE, f(6) + f(4), S(6, 4))
def transposed_convolution() -> nn.Module:
    return around2d(nn.ConvTranspose2d(6, 4, 3, stride=2), n=6, m=4)


@network(IMAGE, f(4) + 4 * f(2) + 4 * f(3), wr(4, 2, 3))
def grouped_transposed_convolution() -> nn.Module:
    return around2d(nn.ConvTranspose2d(8, 12, 3, groups=4, output_padding=0), n=8, m=12)


@network(IMAGE, f(6), S(6))
def prelu_per_channel() -> nn.Module:
    return around2d(nn.PReLU(6), n=6, m=6)


@network(IMAGE, f(4), S(4))
def pixel_shuffle() -> nn.Module:
    """Four channels of 2 x 2 pixels each: the pixels of a channel have their places."""
    return around2d(nn.PixelShuffle(2), n=16, m=4)


@network(IMAGE, f(4), S(4))
def pixel_unshuffle() -> nn.Module:
    return around2d(nn.PixelUnshuffle(2), n=4, m=16)


@network(IMAGE, f(6), S(6))
def channel_shuffle() -> nn.Module:
    return around2d(nn.ChannelShuffle(2), n=6, m=6)


@network(IMAGE, 2 * f(2) + 2 * f(2) + 2 * f(2), [*wr(2, 2), *wr(2, 2)])
def channel_shuffle_between_groups() -> nn.Module:
    """Four channels, one for every pair of a group before and a group after the shuffle.

    Their places follow from those of the groups; the channels before and after are free.
    """
    return around2d(
        nn.Conv2d(4, 4, 1, groups=2),
        nn.Tanh(),
        nn.ChannelShuffle(2),
        nn.Conv2d(4, 4, 1, groups=2),
        n=4,
        m=4,
    )


@network(
    IMAGE,
    2 * f(2) + 4 * f(4) + 4 * f(2),
    [*wr(2, 4), *wr(2, 4), (2, 4, 2)],
    incomplete="a block inside a product of two others cannot be written down",
)
def channel_shuffle_between_larger_groups() -> nn.Module:
    """The same with two channels for every pair of groups, which can be exchanged."""
    return around2d(
        nn.Conv2d(8, 8, 1, groups=2),
        nn.Tanh(),
        nn.ChannelShuffle(2),
        nn.Conv2d(8, 8, 1, groups=2),
        n=8,
        m=8,
    )
