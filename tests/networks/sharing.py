"""Parameters that are used more than once, sliced, unused or computed from others."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .parts import Residual
from .registry import FLAT, TOKENS, S, f, given, network, real


@network(given(real(5)), 0.0, [])
class TiedToTheInput(nn.Module):
    """The first use pins the shared weight's axes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 5)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).relu())


@network(FLAT, f(5), S(5))
class TiedLinears(nn.Module):
    """Rows are columns: one class that lies on both axes of the shared weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 5), nn.Linear(5, 2)
        self.first, self.second = nn.Linear(5, 5), nn.Linear(5, 5)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(self.stem(x).relu()).relu()).relu())


@network(FLAT, f(5), S(5))
class CalledTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.layer, self.head = nn.Linear(3, 5), nn.Linear(5, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.layer(self.stem(x).relu()).relu()).relu())


@network(given(real(3), real(3)), f(5) + f(4), S(5, 4), inert=("tower.2.bias",))
class Siamese(nn.Module):
    """One tower for two inputs; its last bias cancels out."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.head((self.tower(x) - self.tower(y.flip(0) * 2)).abs())


@network(FLAT, f(5), S(5))
class Autoencoder(nn.Module):
    """The decoder is the transposed encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(5, 3)), nn.Parameter(torch.randn(5))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weight.T + self.bias).relu() @ self.weight


@network(FLAT, f(6) + f(5), S(6, 5))
class HiddenAutoencoder(nn.Module):
    """The same among hidden layers, with both axes free."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 6), nn.Linear(6, 2)
        self.weight = nn.Parameter(torch.randn(5, 6))

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x).relu()
        return self.head((F.linear(h, self.weight).relu() @ self.weight).relu())


@network(TOKENS, f(6) + f(8), S(6, 8))
class TiedLanguageModel(nn.Module):
    """The embedding is also the head; the vocabulary stays."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(7, 6)
        self.position = nn.Parameter(torch.zeros(5, 6))
        self.block = Residual(nn.LayerNorm(6), nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 6))
        self.norm = nn.LayerNorm(6)
        self.lm_head = nn.Linear(6, 7, bias=False)
        self.lm_head.weight = self.tokens.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.lm_head(self.norm(self.block(self.tokens(x) + self.position)))


@network(FLAT, f(6) + f(2), S(6, 2))
class LowRankUpdate(nn.Module):
    """LoRA: the rank is a hidden layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.head = nn.Linear(3, 6), nn.Linear(6, 2)
        self.down = nn.Parameter(torch.randn(2, 3))
        self.up = nn.Parameter(torch.zeros(6, 2))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.base.weight + self.up @ self.down
        return self.head(F.linear(x, weight, self.base.bias).relu())


@network(FLAT, f(6) + f(5), S(6, 5))
class ParametersInAList(nn.Module):
    """A plain list holds the same parameter objects a second time."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(6, 3)), nn.Parameter(torch.randn(5, 6))
        self.third = nn.Parameter(torch.randn(2, 5))
        self.weights = [self.first, self.second]

    def forward(self, x: Tensor) -> Tensor:
        for weight in self.weights:
            x = F.linear(x, weight).relu()
        return F.linear(x, self.third)


@network(FLAT, f(6), S(6))
class UnusedParameters(nn.Module):
    """What the forward pass does not reach belongs to no block."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head, self.unused = nn.Linear(3, 6), nn.Linear(6, 2), nn.Linear(6, 6)
        self.also_unused = nn.Parameter(torch.randn(4, 6))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x).relu())


@network(FLAT, f(6) + f(4) + f(2), S(6, 4, 2))
class SlicedParameter(nn.Module):
    """Two layers are rows of one parameter, and told apart by the rows."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.packed = nn.Linear(3, 6), nn.Parameter(torch.randn(6, 6))
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x).relu()
        one, two = F.linear(h, self.packed[:4]), F.linear(h, self.packed[4:])
        return self.head(torch.cat([one.relu(), two.tanh()], 1))


@network(FLAT, f(6), S(6))
def weight_normalised_mlp() -> nn.Module:
    normalised = nn.utils.parametrizations.weight_norm
    return nn.Sequential(normalised(nn.Linear(3, 6)), nn.ReLU(), normalised(nn.Linear(6, 2)))


@network(FLAT, f(6), S(6))
def spectrally_normalised_mlp() -> nn.Module:
    """The buffers u and v of the power iteration move along."""
    normalised = nn.utils.parametrizations.spectral_norm
    return nn.Sequential(nn.Linear(3, 6), nn.ReLU(), normalised(nn.Linear(6, 2)))
