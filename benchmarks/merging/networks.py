"""The networks that are trained, merged and measured."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]


def mlp(*sizes: int) -> nn.Module:
    """A multilayer perceptron of ReLUs on flattened images."""
    layers: list[nn.Module] = [nn.Flatten()]
    for n, m in itertools.pairwise(sizes):
        layers += [nn.Linear(n, m), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class LayerNorm2d(nn.GroupNorm):
    """A norm over all channels and positions of an image, with an affine map per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)


NORMS: dict[str, Norm] = {
    "plain": lambda channels: nn.Identity(),
    "BatchNorm": nn.BatchNorm2d,
    "LayerNorm": LayerNorm2d,
}


def convolution(n: int, m: int, *, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(n, m, 3, stride=stride, padding=1, bias=bias)


def vgg(width: int, *, norm: Norm, bias: bool = True, first: int = 4) -> nn.Module:
    """Six convolutions in three stages, as VGG has them, and one linear layer."""
    layers: list[nn.Module] = []
    channels = 1
    for stage in range(3):
        m = first * width * 2**stage
        for _ in range(2):
            layers += [convolution(channels, m, bias=bias), norm(m), nn.ReLU()]
            channels = m
        layers += [nn.MaxPool2d(2)] if stage < 2 else []
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10, bias=bias)
    )


class Residual(nn.Module):
    """Two convolutions beside a shortcut, as He et al. (2016) have them."""

    def __init__(self, n: int, m: int, *, norm: Norm, bias: bool) -> None:
        super().__init__()
        stride = 1 if n == m else 2
        self.branch = nn.Sequential(
            *(convolution(n, m, stride=stride, bias=bias), norm(m), nn.ReLU()),
            *(convolution(m, m, bias=bias), norm(m)),
        )
        self.shortcut = (
            nn.Identity()
            if n == m
            else nn.Sequential(nn.Conv2d(n, m, 1, stride=stride, bias=bias), norm(m))
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.shortcut(x) + self.branch(x))


class FixupResidual(nn.Module):
    """A residual block without norms: scalar biases, one scalar factor, the last weights at zero.

    Source: H. Zhang, Y. Dauphin and T. Ma, "Fixup Initialization", ICLR 2019.
    """

    def __init__(self, n: int, m: int, *, blocks: int) -> None:
        super().__init__()
        stride = 1 if n == m else 2
        self.first = convolution(n, m, stride=stride, bias=False)
        self.second = convolution(m, m, bias=False)
        self.shortcut = nn.Identity() if n == m else nn.Conv2d(n, m, 1, stride=stride, bias=False)
        self.biases = nn.Parameter(torch.zeros(4))
        self.factor = nn.Parameter(torch.ones(1))
        deviation = (2 / (9 * m)) ** 0.5 * blocks**-0.5
        nn.init.normal_(self.first.weight, std=deviation)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        inside = F.relu(self.first(x + self.biases[0]) + self.biases[1])
        inside = self.second(inside + self.biases[2]) * self.factor + self.biases[3]
        return F.relu(self.shortcut(x) + inside)


def resnet(
    width: int, *, norm: Norm = nn.BatchNorm2d, bias: bool = False, first: int = 16
) -> nn.Module:
    """ResNet-8: a convolution, and three stages of one residual block."""
    sizes = [first * width * 2**stage for stage in range(3)]
    blocks = [
        Residual(n, m, norm=norm, bias=bias) for n, m in itertools.pairwise((sizes[0], *sizes))
    ]
    stem = (convolution(1, sizes[0], bias=bias), norm(sizes[0]), nn.ReLU())
    return _classifier((*stem, *blocks), sizes[-1])


def fixup_resnet(width: int, *, first: int = 16) -> nn.Module:
    """ResNet-8 without norms, in the way of Fixup."""
    sizes = [first * width * 2**stage for stage in range(3)]
    blocks = [FixupResidual(n, m, blocks=3) for n, m in itertools.pairwise((sizes[0], *sizes))]
    return _classifier((convolution(1, sizes[0]), nn.ReLU(), *blocks), sizes[-1])


def _classifier(layers: tuple[nn.Module, ...], channels: int) -> nn.Module:
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


FAMILIES: dict[str, Callable[[int], nn.Module]] = {
    "VGG, plain": partial(vgg, norm=NORMS["plain"]),
    "VGG, no bias": partial(vgg, norm=NORMS["plain"], bias=False),
    "VGG, BatchNorm": partial(vgg, norm=NORMS["BatchNorm"]),
    "VGG, LayerNorm": partial(vgg, norm=NORMS["LayerNorm"]),
    "ResNet, plain": partial(resnet, norm=NORMS["plain"], bias=True, first=4),
    "ResNet, BatchNorm": partial(resnet, norm=NORMS["BatchNorm"], first=4),
    "ResNet, LayerNorm": partial(resnet, norm=NORMS["LayerNorm"], first=4),
    "ResNet, Fixup": partial(fixup_resnet, first=4),
}
"""Small convolutional networks by name, as functions of their width."""


def deep_mlp(*sizes: int) -> nn.Module:
    """An MLP so deep that it has to begin with weights that keep the variance of what they take.

    Source: K. He, X. Zhang, S. Ren and J. Sun, "Delving Deep into Rectifiers", ICCV 2015.
    """
    model = mlp(*sizes)
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return model
