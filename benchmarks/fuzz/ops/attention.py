"""Multi-head attention as torch has it, and written out in the ways that people write it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.fuzz.ops.registry import Arguments, Call, Shape, as_tokens, channels, divisors, op

STYLES = ("fused", "softmax", "causal", "biased", "normed", "linear")


def heads(shape: Shape) -> list[int]:
    return [1, *divisors(channels(shape))] if len(shape) > 1 else []


def places(shape: Shape) -> int:
    return shape[0] if len(shape) == 2 else shape[1] * shape[2]


@op(lambda shape: [(n,) for n in heads(shape)])
def multihead(shape: Shape, count: int) -> nn.Module:
    layer = nn.MultiheadAttention(channels(shape), count, batch_first=True)
    return as_tokens(shape, Call(lambda h, m: m(h, h, h, need_weights=False)[0], layer=layer))


def written_out(shape: Shape) -> list[Arguments]:
    """Heads, heads of keys and values, and style."""
    shared = [(n, k) for n in heads(shape) for k in range(n, 0, -1) if n % k == 0]
    return [(n, k, style) for n, k in shared for style in STYLES]


class Attention(nn.Module):
    """Attention over tokens; with fewer heads of keys and values than of queries, grouped."""

    def __init__(self, shape: Shape, count: int, shared: int, style: str) -> None:
        super().__init__()
        c = channels(shape)
        self.count, self.shared, self.style, self.size = count, shared, style, c // count
        self.query, self.out = nn.Linear(c, c), nn.Linear(c, c)
        self.key = nn.Linear(c, shared * self.size)
        self.value = nn.Linear(c, shared * self.size)
        if style == "biased":
            self.bias = nn.Parameter(torch.zeros(count, places(shape), places(shape)))
        if style == "normed":
            self.scale = nn.Parameter(torch.ones(self.size))
        self.register_buffer("mask", torch.ones(places(shape), places(shape)).tril() == 0)

    def split(self, h: Tensor, count: int) -> Tensor:
        h = h.unflatten(2, (count, self.size)).transpose(1, 2)
        return h if count == self.count else h.repeat_interleave(self.count // count, 1)

    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        if self.style == "normed":
            q, k = (F.normalize(x, dim=3, eps=1e-2) * self.scale for x in (q, k))
        scores = q @ k.transpose(2, 3) / self.size**0.5
        if self.style == "biased":
            scores = scores + self.bias
        if self.style == "causal":
            scores = scores.masked_fill(self.get_buffer("mask"), float("-inf"))
        return scores.softmax(3)

    def forward(self, h: Tensor) -> Tensor:
        q = self.split(self.query(h), self.count)
        k, v = (self.split(layer(h), self.shared) for layer in (self.key, self.value))
        if self.style == "fused":
            mixed = F.scaled_dot_product_attention(q, k, v)
        elif self.style == "linear":
            mixed = q.softmax(3) @ (k.softmax(2).transpose(2, 3) @ v)
        else:
            mixed = self.weights(q, k) @ v
        return self.out(mixed.transpose(1, 2).flatten(2))


@op(written_out)
def attention(shape: Shape, count: int, shared: int, style: str) -> nn.Module:
    return as_tokens(shape, Attention(shape, count, shared, style))


@op(lambda shape: [(n,) for n in heads(shape)])
def packed_attention(shape: Shape, count: int) -> nn.Module:
    """Queries, keys and values from one layer, as in vision transformers."""
    c = channels(shape)

    def forward(h: Tensor, qkv: nn.Module, out: nn.Module) -> Tensor:
        packed = qkv(h).reshape(h.shape[0], h.shape[1], 3, count, c // count)
        q, k, v = packed.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = torch.softmax(q @ k.mT * 0.5, -1) @ v
        return out(mixed.transpose(1, 2).reshape(h.shape[0], h.shape[1], c))

    return as_tokens(shape, Call(forward, qkv=nn.Linear(c, 3 * c), out=nn.Linear(c, c)))


@op(lambda shape: [(n,) for n in heads(shape)])
def channel_attention(shape: Shape, count: int) -> nn.Module:
    """Channels attend to channels within each head, over the positions (XCiT)."""
    c = channels(shape)

    def forward(h: Tensor, qkv: nn.Module, out: nn.Module) -> Tensor:
        q, k, v = qkv(h).unflatten(2, (3, count, c // count)).permute(2, 0, 3, 4, 1).unbind(0)
        return out((q @ k.mT).div(3).softmax(-1).matmul(v).flatten(1, 2).transpose(1, 2))

    return as_tokens(shape, Call(forward, qkv=nn.Linear(c, 3 * c), out=nn.Linear(c, c)))


@op(lambda shape: [(n, t) for n in heads(shape) for t in (2, 3)])
def cross_attention(shape: Shape, count: int, queries: int) -> nn.Module:
    """Tokens attend to a few learned ones, as in a Perceiver."""
    c = channels(shape)
    layer = nn.MultiheadAttention(c, count, batch_first=True)

    def forward(h: Tensor, m: nn.Module, learned: Tensor) -> Tensor:
        memory = learned.expand(h.shape[0], -1, -1)
        return m(h, memory, memory, need_weights=False)[0]

    return as_tokens(
        shape, Call(forward, layer=layer, learned=nn.Parameter(torch.zeros(queries, c)))
    )
