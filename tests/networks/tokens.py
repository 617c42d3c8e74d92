"""Tokens that are mixed, learned or embedded, and a mixture of experts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .parts import Apply
from .registry import FLAT, SEQUENCE, TOKENS, S, f, network, wr


@network(SEQUENCE, f(5) + f(8), S(5, 8))
class TokenMixing(nn.Module):
    """MLP-Mixer: tokens stay, since they come from the input; the layer over them moves."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 5), nn.Linear(5, 2)
        self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.down(self.up(x.mT).relu()).mT)


@network(SEQUENCE, f(5) + f(6), S(5, 6))
class LearnedTokens(nn.Module):
    """Tokens that are parameters (as a class token, registers or latents) and get pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 5), nn.Linear(5, 2)
        self.latents = nn.Parameter(torch.randn(1, 6, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        scores = (self.latents @ x.mT).softmax(-1)
        return self.head((scores @ x).tanh().mean(1))


@network(SEQUENCE, f(5), S(5))
class ClassToken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 5), nn.Linear(5, 2)
        self.token = nn.Parameter(torch.zeros(1, 1, 5))
        self.position = nn.Parameter(torch.zeros(1, 5, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.head(x.tanh()[:, 0] + x.tanh().mean(1))


@network(FLAT, f(3) + 3 * f(4), wr(3, 4))
class MixtureOfExperts(nn.Module):
    """All experts on all inputs, weighted by a gate: experts, and hidden units in each."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(3, 3)
        self.up, self.down = nn.Parameter(torch.randn(3, 3, 4)), nn.Parameter(torch.randn(3, 4, 2))

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.einsum("bd,edh->ebh", x, self.up).relu()
        outputs = torch.bmm(hidden, self.down)
        return torch.einsum("be,ebo->bo", self.gate(x).softmax(1), outputs)


@network(TOKENS, f(5), S(5))
def embedded_tokens() -> nn.Module:
    return nn.Sequential(
        nn.Embedding(7, 5, padding_idx=0), Apply(lambda h: h.mean(1)), nn.Linear(5, 2)
    )


@network(TOKENS, f(5), S(5))
def embedding_bag() -> nn.Module:
    return nn.Sequential(nn.EmbeddingBag(7, 5), nn.Linear(5, 2))


@network(TOKENS, f(5), S(5))
class OneHotTokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(7, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        one_hot = F.one_hot(x, 7).to(self.first.weight.dtype)
        return self.head(self.first(one_hot).tanh().mean(1))
