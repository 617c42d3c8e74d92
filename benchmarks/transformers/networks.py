"""The networks that are merged: two small transformers, and perceptrons of two activations."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Attention of several heads, their queries, keys and values packed in one projection."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        packed = self.qkv(x).unflatten(-1, (3, self.heads, -1))
        q, k, v = packed.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Attention and a perceptron, each after a norm and beside the residual stream."""

    def __init__(self, width: int, heads: int, hidden: int, *, causal: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention: nn.Module = Attention(width, heads, causal=causal)
        self.norm2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class ViT(nn.Module):
    """A vision transformer: patches of ``(n, 1, 28, 28)`` images, a class token, ten logits."""

    def __init__(
        self,
        width: int = 96,
        layers: int = 3,
        heads: int = 4,
        hidden: int = 192,
        *,
        patch: int = 7,
    ) -> None:
        super().__init__()
        self.patch = patch
        self.embedding = nn.Linear(patch * patch, width)
        self.positions = nn.Parameter(0.02 * torch.randn((28 // patch) ** 2 + 1, width))
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.layers = nn.Sequential(
            *(Layer(width, heads, hidden, causal=False) for _ in range(layers))
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        patches = F.unfold(images, self.patch, stride=self.patch).transpose(1, 2)
        token = self.token.expand(len(images), -1, -1)
        x = torch.cat([token, self.embedding(patches)], dim=1) + self.positions
        return self.head(self.norm(self.layers(x))[:, 0])


class GPT(nn.Module):
    """A language model of characters: ``(n, length)`` numbers to ``(n, length, 81)`` logits."""

    def __init__(
        self,
        width: int = 128,
        layers: int = 3,
        heads: int = 4,
        *,
        characters: int = 81,
        length: int = 64,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, width)
        self.positions = nn.Embedding(length, width)
        self.layers = nn.Sequential(
            *(Layer(width, heads, 4 * width, causal=True) for _ in range(layers))
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, characters)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                ends_branch = name.endswith(("out.weight", "down.weight"))
                deviation = 0.02 / ((2 * layers) ** 0.5 if ends_branch else 1)
                nn.init.normal_(parameter, std=deviation)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids) + self.positions.weight[: ids.shape[1]]
        return self.head(self.norm(self.layers(x)))


Transformer = ViT | GPT


def layers_of(model: Transformer) -> list[Layer]:
    return [layer for layer in model.modules() if isinstance(layer, Layer)]


def perceptron(activation: Callable[[], nn.Module], width: int) -> nn.Module:
    """Three hidden layers on flattened images."""
    sizes = (784, width, width, width)
    hidden = [
        layer for n, m in itertools.pairwise(sizes) for layer in (nn.Linear(n, m), activation())
    ]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, 10))
