"""Networks of any width and depth, whose weights have nothing in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.align.checkpoints import Pair, Residual
from benchmarks.measuring.random_weights import randomise_deep

FEATURES = 32
CLASSES = 10
TOKENS = 4
HEAD_SIZE = 64


@dataclass(frozen=True)
class Family:
    """Networks of one architecture."""

    build: Callable[[int, int], nn.Module]
    """From a width and a depth."""
    input_shape: tuple[int, ...]


def residual_mlp(width: int, depth: int) -> nn.Module:
    """Blocks ``x + W2 relu(W1 norm(x))`` with twice as many hidden units."""
    blocks = [Residual(width, 2 * width) for _ in range(depth)]
    head = (nn.LayerNorm(width), nn.Linear(width, CLASSES))
    return nn.Sequential(nn.Linear(FEATURES, width), *blocks, *head)


def transformer(width: int, depth: int) -> nn.Module:
    """Pre-norm encoder layers with heads of :data:`HEAD_SIZE` and MLPs of four times the width."""
    layer = nn.TransformerEncoderLayer(
        width, width // HEAD_SIZE, 4 * width, dropout=0.0, batch_first=True, norm_first=True
    )
    encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
    head = (nn.LayerNorm(width), nn.Linear(width, CLASSES))
    return nn.Sequential(nn.Linear(FEATURES, width), encoder, *head)


FAMILIES = {
    "residual_mlp": Family(residual_mlp, (2, FEATURES)),
    "transformer": Family(transformer, (1, TOKENS, FEATURES)),
}


def random_pair(family: str, width: int, depth: int) -> Pair:
    """Two networks, each tensor with values of its own, and an input."""
    chosen = FAMILIES[family]
    inputs = torch.randn(chosen.input_shape, generator=torch.Generator().manual_seed(0))
    a, b = (_network(chosen, width, depth, inputs, seed) for seed in (1, 2))
    return Pair(a, b, inputs)


def _network(family: Family, width: int, depth: int, inputs: Tensor, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = family.build(width, depth).eval()
    randomise_deep(model, inputs)
    return model
