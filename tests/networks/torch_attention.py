"""The attention and transformer layers of torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .parts import stream
from .registry import SEQUENCE, S, f, given, network, real, wr


class SelfAttention(nn.Module):
    def __init__(self, weights: bool = False, **options: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 3, batch_first=True, **options)
        self.weights = weights

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.attention(x, x, x, need_weights=self.weights)[0]
        return y


# As above with a stream of 6.
TORCH_ATTENTION = f(6) + f(3) + 3 * (f(2) + f(2))


@network(SEQUENCE, TORCH_ATTENTION, S(6) + wr(3, 2, 2))
def torch_attention() -> nn.Module:
    return stream(SelfAttention(), 6)


@network(SEQUENCE, TORCH_ATTENTION, S(6) + wr(3, 2, 2))
def torch_attention_with_weights() -> nn.Module:
    return stream(SelfAttention(weights=True), 6)


@network(SEQUENCE, TORCH_ATTENTION, S(6) + wr(3, 2, 2))
def torch_attention_with_learned_key() -> nn.Module:
    """One more key and value, which are parameters of shape (1, 1, h d), and one of zeros."""
    return stream(SelfAttention(add_bias_kv=True, add_zero_attn=True), 6)


@network(SEQUENCE, TORCH_ATTENTION, S(6) + wr(3, 2, 2))
class TorchAttentionWithMask(nn.Module):
    """The mask is a constant that tells tokens apart, not heads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 6), nn.Linear(6, 2)
        self.attention = nn.MultiheadAttention(6, 3, batch_first=True)
        self.register_buffer("mask", torch.ones(4, 4).triu(1).bool())
        self.mask: Tensor

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y, _ = self.attention(x, x, x, attn_mask=self.mask, need_weights=False)
        return self.head(x + y)


@network(SEQUENCE, TORCH_ATTENTION, S(6) + wr(3, 2, 2))
class AveragedAttentionWeightsAreAnOutput(nn.Module):
    """The mean over heads does not tell heads apart."""

    def __init__(self, average: bool = True) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 6), nn.Linear(6, 2)
        self.attention = nn.MultiheadAttention(6, 3, batch_first=True)
        self.average = average

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        y, weights = self.attention(x, x, x, average_attn_weights=self.average)
        return self.head(x + y), weights


@network(SEQUENCE, f(6) + 6 * f(2), S(6, *[2] * 6))
def attention_weights_are_an_output() -> nn.Module:
    """Heads are seen from outside; features in them are not."""
    return AveragedAttentionWeightsAreAnOutput(average=False)


@network(given(real(4, 3), real(5, 3)), 2 * f(6) + f(3) + 6 * f(2), S(6, 6) + wr(3, 2, 2))
class CrossAttention(nn.Module):
    def __init__(self, **sizes: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 6), nn.Linear(6, 2)
        self.keys = nn.Linear(3, sizes.get("kdim", 6))
        self.attention = nn.MultiheadAttention(6, 3, batch_first=True, **sizes)
        self.values = nn.Linear(3, sizes["vdim"]) if sizes else self.keys

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x = self.stem(x)
        z, _ = self.attention(x, self.keys(y), self.values(y), need_weights=False)
        return self.head(x + z)


@network(
    given(real(4, 3), real(5, 3)),
    f(6) + f(4) + f(5) + f(3) + 6 * f(2),
    S(6, 4, 5) + wr(3, 2, 2),
    inert=("keys.bias",),
)
def cross_attention_of_other_widths() -> nn.Module:
    return CrossAttention(kdim=4, vdim=5)


@network(SEQUENCE, TORCH_ATTENTION + f(5), S(6, 5) + wr(3, 2, 2))
def encoder_layer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(6, 3, 5, batch_first=True)
    return nn.Sequential(nn.Linear(3, 6), layer, nn.Linear(6, 2))


@network(SEQUENCE, TORCH_ATTENTION + f(5), S(6, 5) + wr(3, 2, 2))
def encoder_layer_with_norms_first() -> nn.Module:
    layer = nn.TransformerEncoderLayer(6, 3, 5, batch_first=True, norm_first=True)
    return nn.Sequential(nn.Linear(3, 6), layer, nn.Linear(6, 2))


@network(
    given(real(4, 3), real(5, 3)),
    2 * f(6) + 2 * (f(3) + 6 * f(2)) + f(5),
    S(6, 6, 5) + wr(3, 2, 2) + wr(3, 2, 2),
)
class DecoderLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.memory, self.head = nn.Linear(3, 6), nn.Linear(3, 6), nn.Linear(6, 2)
        self.layer = nn.TransformerDecoderLayer(6, 3, 5, batch_first=True)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.head(self.layer(self.stem(x), self.memory(y)))


@network(
    given(real(4, 3), real(5, 3)),
    2 * f(4) + 3 * (f(2) + 4 * f(2)) + 2 * f(3),
    S(4, 4, 3, 3) + 3 * wr(2, 2, 2),
)
class EncoderDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.source, self.target, self.head = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2)
        self.transformer = nn.Transformer(4, 2, 1, 1, 3, batch_first=True)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.head(self.transformer(self.source(x), self.target(y)))
