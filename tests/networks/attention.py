"""Attention written by hand: heads, fused projections, positions and norms."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .parts import stream
from .registry import SEQUENCE, S, f, network, wr


class Attention(nn.Module):
    """By hand, in several spellings: 3 heads of 2 features in a stream of 5."""

    def __init__(self, width: int = 6, heads: int = 3) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k = nn.Linear(5, width), nn.Linear(5, width)
        self.v, self.out = nn.Linear(5, width), nn.Linear(width, 5)

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x))
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k).softmax(-1)
        return self.out(torch.einsum("bhqk,bkhd->bqhd", scores, v).flatten(2))


# In all of these the keys' bias does not matter: softmax ignores what is added to all scores.
ATTENTION = f(5) + f(3) + 3 * (f(2) + f(2))


@network(SEQUENCE, ATTENTION, S(5) + wr(3, 2, 2), inert=("1.0.k.bias",))
def attention_by_einsum() -> nn.Module:
    return stream(Attention())


@network(SEQUENCE, f(5) + f(4) + f(4), S(5, 4, 4), inert=("1.0.k.bias",))
def attention_of_one_head() -> nn.Module:
    return stream(Attention(4, 1))


@network(SEQUENCE, f(5) + f(4), S(5, 4), inert=("1.0.k.bias",))
def attention_of_heads_of_one_feature() -> nn.Module:
    return stream(Attention(4, 4))


@network(SEQUENCE, ATTENTION, S(5) + wr(3, 2, 2))
def attention_from_a_fused_projection() -> nn.Module:
    class Fused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.out = nn.Linear(5, 18), nn.Linear(6, 5)

        def forward(self, x: Tensor) -> Tensor:
            b, t, _ = x.shape
            q, k, v = self.qkv(x).chunk(3, -1)
            q, k, v = (y.view(b, t, 3, 2).transpose(1, 2) for y in (q, k, v))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.out(y.transpose(1, 2).reshape(b, t, 6))

    return stream(Fused())


@network(SEQUENCE, ATTENTION, S(5) + wr(3, 2, 2))
def attention_from_a_fused_projection_per_head() -> nn.Module:
    """(h 3 d): every head has its query, key and value rows next to each other."""

    class Fused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.out = nn.Linear(5, 18), nn.Linear(6, 5)

        def forward(self, x: Tensor) -> Tensor:
            b, t, _ = x.shape
            q, k, v = self.qkv(x).view(b, t, 3, 6).transpose(1, 2).chunk(3, -1)
            scores = (q @ k.transpose(-2, -1) / 2**0.5).softmax(-1)
            return self.out((scores @ v).transpose(1, 2).reshape(b, t, 6))

    return stream(Fused())


@network(
    SEQUENCE, f(5) + 6 * f(2), S(5, *[2] * 6), inert=tuple(f"1.0.k.{h}.bias" for h in range(3))
)
def attention_head_by_head() -> nn.Module:
    """Every head has parameters of its own, which stay where they are."""

    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q = nn.ModuleList(nn.Linear(5, 2) for _ in range(3))
            self.k = nn.ModuleList(nn.Linear(5, 2) for _ in range(3))
            self.v = nn.ModuleList(nn.Linear(5, 2) for _ in range(3))
            self.out = nn.Linear(6, 5)

        def forward(self, x: Tensor) -> Tensor:
            heads = []
            for q, k, v in zip(self.q, self.k, self.v, strict=True):
                scores = (q(x) @ k(x).transpose(1, 2)).softmax(-1)
                heads.append(scores @ v(x))
            return self.out(torch.cat(heads, -1))

    return stream(Loop())


@network(SEQUENCE, f(5) + 2 * f(3) + 3 * f(2) + 3 * f(2), S(5) + wr(3, 2) + wr(3, 2))
class TalkingHeads(nn.Module):
    """The scores are mixed over heads: those that score and those that read are different."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 5), nn.Linear(5, 2)
        self.q, self.k, self.v = (nn.Linear(5, 6, bias=False) for _ in range(3))
        self.mix, self.out = nn.Parameter(torch.randn(3, 3)), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        q, k, v = (p(x).unflatten(2, (3, 2)) for p in (self.q, self.k, self.v))
        scores = torch.einsum("bqhd,bkhd,hg->bgqk", q, k, self.mix).softmax(-1)
        return self.head(x + self.out(torch.einsum("bgqk,bkgd->bqgd", scores, v).flatten(2)))


@network(SEQUENCE, ATTENTION, S(5) + wr(3, 2, 2), inert=("1.0.k.bias",))
def attention_with_relative_position_bias() -> nn.Module:
    """The columns of the bias table are heads."""

    class Biased(Attention):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.zeros(7, 3))
            index = torch.arange(4)[:, None] - torch.arange(4) + 3
            self.register_buffer("index", index)
            self.index: Tensor

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = (self.split(p(x)).transpose(1, 2) for p in (self.q, self.k, self.v))
            bias = self.table[self.index.view(-1)].view(4, 4, 3).permute(2, 0, 1)
            scores = (q @ k.transpose(-2, -1) + bias).softmax(-1)
            return self.out((scores @ v).transpose(1, 2).flatten(2))

    return stream(Biased())


class Rotary(Attention):
    """3 heads of 4 features, of which the first ``rotated`` are turned in pairs."""

    def __init__(self, rotated: int = 4) -> None:
        super().__init__(12, 3)
        self.rotated = rotated
        angles = torch.arange(4.0)[:, None] * torch.tensor([1.0, 0.3]).repeat(2)
        self.register_buffer("cos", angles.cos()[:, None, :rotated], persistent=False)
        self.register_buffer("sin", angles.sin()[:, None, :rotated], persistent=False)
        self.cos: Tensor
        self.sin: Tensor

    def turn(self, x: Tensor) -> Tensor:
        x, rest = x[..., : self.rotated], x[..., self.rotated :]
        a, b = x.chunk(2, -1)
        return torch.cat([x * self.cos + torch.cat([-b, a], -1) * self.sin, rest], -1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x))
        scores = torch.einsum("bqhd,bkhd->bhqk", self.turn(q), self.turn(k)).softmax(-1)
        return self.out(torch.einsum("bhqk,bkhd->bqhd", scores, v).flatten(2))


@network(SEQUENCE, f(5) + f(3) + 3 * f(4), S(5) + wr(3, 4))
def rotary_attention() -> nn.Module:
    """Heads move, and values in them; queries and keys have fixed frequencies."""
    return stream(Rotary())


@network(SEQUENCE, f(5) + f(3) + 3 * f(2) + 3 * f(4), S(5) + wr(3, 2, 4), inert=())
def partly_rotary_attention() -> nn.Module:
    """Two of four query and key features are turned; the others move inside each head."""
    return stream(Rotary(2))


@network(SEQUENCE, f(5) + f(3) + f(4) + 3 * f(4), S(5, 4) + wr(3, 4), inert=("1.0.k.bias",))
def attention_with_normalised_queries_and_keys() -> nn.Module:
    """The norms' weights are shared by the heads: one permutation of features for all of them."""

    class Normalised(Attention):
        def __init__(self) -> None:
            super().__init__(12, 3)
            self.q_norm, self.k_norm = Rms(4), Rms(4)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x))
            scores = torch.einsum("bqhd,bkhd->bhqk", self.q_norm(q), self.k_norm(k)).softmax(-1)
            return self.out(torch.einsum("bhqk,bkhd->bqhd", scores, v).flatten(2))

    return stream(Normalised())


class Rms(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight
