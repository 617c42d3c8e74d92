"""Convolutions, pooling and the norms over channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .parts import around2d
from .registry import IMAGE, S, f, given, network, real, wr


@network(IMAGE, f(6) + f(4), S(6, 4))
def convolution_flattened() -> nn.Module:
    """The units of the first linear layer's columns are blocks of height x width."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 4), nn.ReLU(), nn.Linear(4, 2)
    )


@network(IMAGE, f(6) + f(4), S(6, 4))
def convolution_pooled_and_flattened() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d((2, 1)),
        nn.Flatten(),
        nn.Linear(12, 4),
        nn.ReLU(),
        nn.Linear(4, 2),
    )


@network(IMAGE, f(6), S(6))
def convolution_pooled_globally() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 2),
    )


@network(given(real(3, 9)), f(6) + f(4), S(6, 4))
def convolution_1d() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(3, 6, 3),
        nn.BatchNorm1d(6),
        nn.MaxPool1d(2),
        nn.Conv1d(6, 4, 2),
        nn.ReLU(),
        nn.AdaptiveMaxPool1d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )


@network(given(real(3, 4, 4, 4)), f(6) + f(4), S(6, 4))
def convolution_3d() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(3, 6, 3, padding=1),
        nn.BatchNorm3d(6),
        nn.ReLU(),
        nn.MaxPool3d(2),
        nn.Conv3d(6, 4, 1),
        nn.AvgPool3d(2),
        nn.Flatten(),
        nn.Linear(4, 2),
    )


@network(IMAGE, f(4) + 2 * f(3), S(4, 3, 3))
class DenseConnections(nn.Module):
    """As in DenseNet: every layer reads all that came before."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)
        self.third, self.norm, self.head = (
            nn.Conv2d(7, 3, 1),
            nn.BatchNorm2d(10),
            nn.Conv2d(10, 2, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        a = self.first(x).relu()
        b = self.second(a).relu()
        c = self.third(torch.cat([a, b], 1)).relu()
        return self.head(self.norm(torch.cat([a, b, c], 1)).relu())


@network(IMAGE, f(6) + f(3), S(6, 3))
class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 2, 1)
        self.squeeze, self.excite = nn.Conv2d(6, 3, 1), nn.Conv2d(3, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x).relu()
        gate = self.excite(self.squeeze(h.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return self.head(h * gate)


@network(IMAGE, f(3) + 3 * f(4), wr(3, 4))
def group_norm() -> nn.Module:
    """Channels within groups, and groups as a whole."""
    return around2d(nn.GroupNorm(3, 12), n=12, m=12)


@network(IMAGE, f(6), S(6))
def group_norm_of_one_group() -> nn.Module:
    return around2d(nn.GroupNorm(1, 6), n=6, m=6)


@network(IMAGE, f(2) + 2 * f(4) + 2 * f(2), wr(2, 4, 2))
def group_norms_that_do_not_divide_each_other() -> nn.Module:
    """Halves (0-5, 6-11) and thirds (0-3, 4-7, 8-11) of twelve channels.

    Exchanging the halves exchanges the outer thirds. In a half, four channels lie in an outer
    third and two in the middle one.
    """
    return around2d(nn.GroupNorm(2, 12), nn.Tanh(), nn.GroupNorm(3, 12), n=12, m=12)


@network(IMAGE, f(6), S(6))
def instance_norm() -> nn.Module:
    return around2d(nn.InstanceNorm2d(6, affine=True), n=6, m=6)


@network(IMAGE, f(6), S(6))
def instance_norm_with_statistics() -> nn.Module:
    return around2d(nn.InstanceNorm2d(6, affine=True, track_running_stats=True), n=6, m=6)


@network(IMAGE, f(6), S(6))
def batch_norm_without_statistics() -> nn.Module:
    return around2d(nn.BatchNorm2d(6, track_running_stats=False), n=6, m=6)


@network(IMAGE, f(6), S(6))
def layer_norm_of_images() -> nn.Module:
    """An affine of shape (C, H, W): channels move, height and width stay."""
    return around2d(nn.LayerNorm((6, 4, 4)), n=6, m=6)


@network(IMAGE, 0.0, [])
def local_response_norm() -> nn.Module:
    """Each channel is divided by the power of its neighbours: their order counts."""
    return around2d(nn.LocalResponseNorm(3), n=6, m=6)
