"""Shortcuts, scales and pooling with indices between convolutions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .parts import Apply, around2d
from .registry import FLAT, IMAGE, S, f, network


@network(IMAGE, f(4) + f(4) + f(5), S(4, 4, 5))
class PaddedShortcut(nn.Module):
    """ResNet's option A: four channels become the middle ones of eight, the others are new."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(8, 2, 1)
        self.one, self.two = nn.Conv2d(4, 5, 3, stride=2, padding=1), nn.Conv2d(5, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x).relu()
        shortcut = F.pad(h[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        return self.head((shortcut + self.two(self.one(h).relu())).relu())


@network(IMAGE, 2 * f(4) + 2 * f(6), S(4, 4, 6, 6))
class ResidualConvolutions(nn.Module):
    """Two residual blocks, the second with a downsampling shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.one = nn.Sequential(
            nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(True),
            nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4),
        )  # fmt: skip
        self.two = nn.Sequential(
            nn.Conv2d(4, 6, 3, 2, padding=1), nn.BatchNorm2d(6), nn.ReLU(True),
            nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6),
        )  # fmt: skip
        self.downsample = nn.Sequential(nn.Conv2d(4, 6, 1, 2), nn.BatchNorm2d(6))
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.one(x)
        y += x
        y = F.relu(y, inplace=True)
        return self.head(torch.flatten(self.pool((self.two(y) + self.downsample(y)).relu_()), 1))


@network(IMAGE, f(4) + f(5) + f(6), S(4, 5, 6))
class SkipConcatenation(nn.Module):
    """As in U-Net."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3, padding=1)
        self.up, self.head = nn.Conv2d(9, 6, 1), nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x).relu()
        b = F.interpolate(self.down2(F.max_pool2d(a, 2)).relu(), scale_factor=2, mode="nearest")
        return self.head(self.up(torch.cat([b, a], 1)).relu())


@network(IMAGE, f(4), S(4))
class PooledWithIndices(nn.Module):
    """Where the maxima were decides where the pixels go back to."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        h, where = F.max_pool2d(self.first(x).tanh(), 2, return_indices=True)
        return self.last(F.max_unpool2d(h, where, (2, 2)))


@network(IMAGE, f(6), S(6))
def free_scale_of_channels() -> nn.Module:
    return around2d(Scale(6, 1, 1), Scale(1, 6, 1, 1), n=6, m=6)


@network(FLAT, f(6), S(6))
def free_scale_of_features() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 6), Scale(6), Scale(), Scale(1), nn.ReLU(), nn.Linear(6, 2))


class Scale(nn.Module):
    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full(shape, 1e-4))

    def forward(self, x: Tensor) -> Tensor:
        return self.gamma * x


@network(IMAGE, f(6) + f(8), S(6, 8))
class LayerScale(nn.Module):
    """A ConvNeXt block: depthwise convolution, channels last, layer scale (C, 1, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 2, 1)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.norm, self.up, self.down = nn.LayerNorm(6), nn.Linear(6, 8), nn.Linear(8, 6)
        self.scale = Scale(6, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.down(F.gelu(self.up(y))).permute(0, 3, 1, 2)
        return self.head(x + self.scale(y))


@network(IMAGE, f(4), S(4))
def unfolded_by_hand() -> nn.Module:
    """im2col: every channel becomes nine columns."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Unfold(3), Apply(lambda h: h.transpose(1, 2)),
        nn.Linear(36, 2),
    )  # fmt: skip
