"""Gains of the layers of two small networks trained on digits, as weight matching meets them."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn

from fxrebasin.assignment import assign

SWEEPS = 6
STEPS = 60


def train(width: int, seed: int) -> list[Tensor]:
    """Weights of a network 64-w-w-w-10 after a few steps of Adam."""
    images, digits = (torch.from_numpy(x) for x in load_digits(return_X_y=True))
    images = images.float() / 16
    torch.manual_seed(seed)
    sizes = (64, width, width, width, 10)
    layers = [nn.Linear(i, o, bias=False) for i, o in itertools.pairwise(sizes)]
    model = nn.Sequential(*(m for layer in layers for m in (layer, nn.ReLU())))[:-1]
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(STEPS):
        batch = torch.randint(len(images), (128,))
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(images[batch]), digits[batch]).backward()
        optimiser.step()
    return [layer.weight.detach() for layer in layers]


def layer_gains(width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What the middle layer's units gain from each other: in the first sweep, and in the last."""
    a, b = train(width, 0), train(width, 1)
    orders = [torch.arange(width) for _ in range(3)]
    middle = []
    for sweep in range(SWEEPS):
        generator = torch.Generator().manual_seed(sweep)
        for k in torch.randperm(3, generator=generator).tolist():
            entering = b[k] if k == 0 else b[k][:, orders[k - 1]]
            leaving = b[k + 1] if k == 2 else b[k + 1][orders[k + 1]]
            gains = a[k] @ entering.T + a[k + 1].T @ leaving
            if k == 1:
                middle.append(gains.numpy())
            orders[k] = assign(gains[None]).columns[0]
    return middle[0], middle[-1]
