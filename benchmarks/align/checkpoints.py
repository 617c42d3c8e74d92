"""The networks that are aligned: two of random weights, or one and a noisy permutation of it."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision import models

import fxrebasin as fr
from benchmarks.measuring.random_weights import randomise_deep
from benchmarks.planted.__main__ import with_noise

TRANSFORMER_SIZE = 224
"""What the windows and positions of a transformer are made for."""
CONVOLUTION_SIZE = 64
CHUNK = 2**22
"""Entries that are raised to float64 at once."""


@dataclass(frozen=True, eq=False)
class Pair:
    """Two networks of one architecture, and a batch of inputs."""

    a: nn.Module
    b: nn.Module
    inputs: Tensor


@dataclass(frozen=True, eq=False)
class Planted:
    """A network, a permutation of it with noise, and what was planted."""

    pair: Pair
    symmetry: fr.Symmetry
    permutation: fr.Permutation


class Residual(nn.Module):
    """``x + W2 relu(W1 norm(x))``."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def mlp() -> nn.Module:
    sizes = (784, 512, 512, 512)
    layers = [layer for n, m in itertools.pairwise(sizes) for layer in (nn.Linear(n, m), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(512, 10))


def residual_mlp() -> nn.Module:
    blocks = [Residual(256, 512) for _ in range(6)]
    return nn.Sequential(nn.Linear(784, 256), *blocks, nn.LayerNorm(256), nn.Linear(256, 10))


def build(name: str, seed: int) -> tuple[nn.Module, Tensor]:
    """A network as its constructor leaves it, but for matrices of zeros, such as the head of
    torchvision's ViT, which would hide all that comes before; in eval mode, and two inputs."""
    torch.manual_seed(seed)
    if name in ("mlp", "residual_mlp"):
        model = mlp() if name == "mlp" else residual_mlp()
        return model.eval(), torch.randn(2, 784)
    transformer = name.startswith(("vit", "swin"))
    size = TRANSFORMER_SIZE if transformer else CONVOLUTION_SIZE
    model = models.get_model(name, weights=None)
    for parameter in model.parameters():
        if parameter.ndim == 2 and not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return model.eval(), torch.randn(2, 3, size, size)


def random_pair(name: str) -> Pair:
    """Two networks that have nothing in common, each tensor with values of its own."""
    (a, inputs), (b, _) = build(name, seed=0), build(name, seed=1)
    for seed, model in enumerate((a, b), start=2):
        torch.manual_seed(seed)
        randomise_deep(model, inputs)
    return Pair(a, b, inputs)


def planted(name: str, noise: float) -> Planted:
    """B is a random valid permutation of A, with noise of a share of each tensor's deviation."""
    a, inputs = build(name, seed=0)
    symmetry = fr.analyze(a, args=(inputs,))
    permutation = fr.Permutation.random(symmetry, torch.Generator().manual_seed(1))
    b, _ = build(name, seed=0)
    b.load_state_dict(with_noise(permutation.apply(a.state_dict()), noise))
    return Planted(Pair(a, b, inputs), symmetry, permutation)


def objective(pair: Pair, state: dict[str, Tensor], *, matrices: bool = False) -> float:
    """The inner product of A's parameters (no buffers) with those of a state dict, in float64.

    With ``matrices``, of those with more than one axis only.
    """
    return math.fsum(
        float(torch.dot(x.double(), y.double()))
        for name, parameter in pair.a.named_parameters()
        if parameter.ndim > 1 or not matrices
        for x, y in zip(
            parameter.detach().flatten().split(CHUNK),
            state[name].detach().flatten().split(CHUNK),
            strict=True,
        )
    )


def gain(pair: Pair, state: dict[str, Tensor], *, matrices: bool = False) -> float:
    """By how much a state dict is closer to A's than B's own is, in inner products."""
    before = objective(pair, pair.b.state_dict(), matrices=matrices)
    return objective(pair, state, matrices=matrices) - before
