"""The same networks with the products of each head's matrices in the place of its matrices.

No basis inside of a head is left to be aligned, but it is another architecture, whose heads have
the rank of the whole stream: GLMC interpolates these.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.transformers.networks import Attention, Transformer, layers_of


def circuits_of(attention: Attention) -> tuple[Tensor, Tensor]:
    """What a head's queries and keys compute together, ``(heads, d + 1, d + 1)``, divided by the
    root of its width, and what its values and its outputs do, ``(heads, d, d + 1)``.

    The last rows and columns are those of the biases.
    """
    packed = torch.cat([attention.qkv.weight, attention.qkv.bias[:, None]], dim=1).detach()
    q, k, v = packed.unflatten(0, (3, attention.heads, -1))
    out = attention.out.weight.detach().unflatten(1, (attention.heads, -1)).transpose(0, 1)
    return q.mT @ k / q.shape[1] ** 0.5, out @ v


class CircuitAttention(nn.Module):
    """Attention by the products of matrices."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        qk, ov = circuits_of(attention)
        self.qk, self.ov = nn.Parameter(qk), nn.Parameter(ov)
        self.bias = nn.Parameter(attention.out.bias.detach().clone())
        self.causal = attention.causal

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, 1), value=1.0)[:, None]
        keys = x.expand(-1, len(self.qk), -1, -1)
        mixed = F.scaled_dot_product_attention(
            x @ self.qk, keys, keys, is_causal=self.causal, scale=1.0
        )
        return torch.einsum("nhti,hoi->nto", mixed, self.ov) + self.bias


def with_circuits(model: Transformer) -> Transformer:
    """A copy of a network that computes the same with products."""
    made = copy.deepcopy(model)
    for layer in layers_of(made):
        assert isinstance(layer.attention, Attention)
        layer.attention = CircuitAttention(layer.attention)
    return made.eval()


def circuits_in(model: Transformer) -> list[CircuitAttention]:
    """Those of all layers."""
    return [m for m in model.modules() if isinstance(m, CircuitAttention)]
