"""Buffers and constants that meet hidden units."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .parts import around
from .registry import FLAT, S, f, network


class Masked(nn.Module):
    def __init__(self, mask: Tensor, persistent: bool = True) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 6), nn.Linear(6, 2)
        self.register_buffer("mask", mask, persistent)
        self.mask: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x).tanh() * self.mask)


@network(FLAT, f(6), S(6), incomplete="buffers of numbers may come to hold others")
def masked_by_a_uniform_buffer() -> nn.Module:
    return Masked(torch.full((6,), 0.5), persistent=False)


@network(FLAT, 0.0, [])
def masked_by_a_buffer() -> nn.Module:
    return Masked(torch.arange(6.0))


@network(
    FLAT,
    f(2) + f(4),
    S(2, 4),
    incomplete="a constant that is not uniform pins, also where some of its entries are equal",
)
def masked_by_zeros_and_ones() -> nn.Module:
    return Masked(torch.tensor([1.0, 0.5, 0.5, 1.0, 0.5, 0.5]))


@network(FLAT, f(6), S(6))
class HandmadeBatchNorm(nn.Module):
    """Statistics in buffers, which are uniform at first and something else once trained."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 6), nn.Linear(6, 2)
        self.register_buffer("running_mean", torch.zeros(6))
        self.register_buffer("running_var", torch.ones(6))
        self.running_mean: Tensor
        self.running_var: Tensor

    def forward(self, x: Tensor) -> Tensor:
        h = (self.first(x) - self.running_mean) * (self.running_var + 1e-5).rsqrt()
        return self.head(h.relu())


@network(FLAT, f(6), S(6))
def index_order_given_by_a_buffer() -> nn.Module:
    """A fixed permutation of the hidden units."""
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    return around(lambda h: h[:, order], 6)
