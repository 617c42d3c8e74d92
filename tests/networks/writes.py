"""In-place ops; fx cannot trace assignments to a proxy's items, but functions that contain them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .parts import around
from .registry import FLAT, SEQUENCE, S, f, network


def set_slice(h: Tensor, start: int, stop: int, value: Tensor | float) -> Tensor:
    h[:, start:stop] = value
    return h


def add_to_slice(h: Tensor, value: Tensor) -> Tensor:
    h[:, 1:] += value
    return h


torch.fx.wrap("set_slice")
torch.fx.wrap("add_to_slice")


@network(FLAT, f(6), S(6))
def in_place_activations() -> nn.Module:
    def forward(h: Tensor) -> Tensor:
        h.mul_(2).sigmoid_()
        h += 1
        h.clamp_(0, 1.6)
        return h.masked_fill_(h < 1.2, 0.5)

    return around(forward, 6)


@network(FLAT, f(5), S(5))
class AddedToAllButOne(nn.Module):
    """``h[:, 1:] += y``: unit 0 is left out."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(3, 6), nn.Linear(3, 5), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).tanh()
        add_to_slice(h, self.second(x).tanh())
        return self.head(h)


@network(SEQUENCE, f(6), S(6))
class AddedToAllButOneToken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(3, 6), nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).tanh()
        h[:, 1:].add_(self.second(x)[:, 1:].tanh())
        return self.head(h)


@network(FLAT, f(4) + f(2), S(4, 2))
class AssignedToSlices(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(3, 4), nn.Linear(3, 2), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[0], 6)
        h[:, :4].copy_(self.first(x).tanh())
        set_slice(h, 4, 6, self.second(x).tanh())
        return self.head(h)


@network(FLAT, f(4) + 2 * f(2), S(4, 2, 2))
def partly_overwritten() -> nn.Module:
    """Of six units two become constants: neither their rows nor their columns matter."""
    return around(lambda h: set_slice(h, 1, 3, 0.5), 6)


@network(FLAT, f(2) + f(4), S(2, 4))
class WrittenThroughAView(nn.Module):
    """Everything is scaled and squashed, and the first two units a second time."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        h.t().mul_(3)
        h.unflatten(1, (2, 3)).tanh_()
        h.view(-1, 3, 2)[:, 0].sigmoid_()
        return self.head(h)
