"""Attention in which several query heads share one head of keys and values."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .parts import stream
from .registry import SEQUENCE, S, f, network, wr


class GroupedQueries(nn.Module):
    """2 key and value heads, 3 query heads for each, 4 features."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.out = nn.Linear(5, 24), nn.Linear(24, 5)
        self.k, self.v = nn.Linear(5, 8, bias=False), nn.Linear(5, 8)

    def repeat(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(3, dim=1)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        q = self.q(x).view(b, t, 6, 4).transpose(1, 2)
        k, v = (self.repeat(p(x).view(b, t, 2, 4).transpose(1, 2)) for p in (self.k, self.v))
        y = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.out(y.transpose(1, 2).reshape(b, t, 24))


GROUPED_QUERIES = f(5) + f(2) + 2 * (f(3) + f(4) + f(4))


@network(SEQUENCE, GROUPED_QUERIES, S(5) + wr(2, 3, 4, 4))
def grouped_query_attention_by_repeating() -> nn.Module:
    """Groups, query heads in a group, and features: those of a group's queries follow its keys."""
    return stream(GroupedQueries())


@network(SEQUENCE, GROUPED_QUERIES, S(5) + wr(2, 3, 4, 4))
def grouped_query_attention_by_expanding() -> nn.Module:
    class Expanding(GroupedQueries):
        def repeat(self, x: Tensor) -> Tensor:
            b, h, t, d = x.shape
            return x[:, :, None].expand(b, h, 3, t, d).reshape(b, h * 3, t, d)

    return stream(Expanding())


@network(SEQUENCE, GROUPED_QUERIES, S(5) + wr(2, 3, 4, 4))
def grouped_query_attention_by_torch() -> nn.Module:
    class Fused(GroupedQueries):
        def forward(self, x: Tensor) -> Tensor:
            b, t, _ = x.shape
            q = self.q(x).view(b, t, 6, 4).transpose(1, 2)
            k, v = (p(x).view(b, t, 2, 4).transpose(1, 2) for p in (self.k, self.v))
            y = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
            return self.out(y.transpose(1, 2).reshape(b, t, 24))

    return stream(Fused())
