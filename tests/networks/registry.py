"""Where networks are registered with their groups, and the notation that these are written in."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

Blocks = list[tuple[int, int, int]]
Inputs = Callable[[int], tuple[Tensor, ...]]
Factory = TypeVar("Factory", bound=Callable[[], nn.Module])


@dataclass(frozen=True, eq=False)
class Network:
    """A network and its group."""

    name: str
    factory: Callable[[], nn.Module]
    inputs: Inputs
    """From a batch size to example inputs."""
    log_order: float
    blocks: Blocks
    """Size, number of parents and size of the parent block (0: none) of every block."""
    unknown: tuple[str, ...] = ()
    """The ops that are not understood."""
    incomplete: str = ""
    """Why less than the whole group is found; empty where all of it is."""
    inert: tuple[str, ...] = ()
    """Parameters that move, but need not: where they are does not matter."""


NETWORKS: dict[str, Network] = {}


def network(
    inputs: Inputs,
    log_order: float,
    blocks: Blocks,
    *,
    unknown: tuple[str, ...] = (),
    incomplete: str = "",
    inert: tuple[str, ...] = (),
) -> Callable[[Factory], Factory]:
    """Register a class or function that makes a network."""

    def register(factory: Factory) -> Factory:
        name = factory.__name__
        assert name not in NETWORKS, name
        NETWORKS[name] = Network(
            name, factory, inputs, log_order, blocks, unknown, incomplete, inert
        )
        return factory

    return register


def f(n: int) -> float:
    """The logarithm of ``n!``."""
    return math.lgamma(n + 1)


def S(*sizes: int) -> Blocks:  # noqa: N802 - the symbol of the symmetric group
    return [(n, 1, 0) for n in sizes]


def wr(n: int, *sizes: int) -> Blocks:
    """``n`` copies of the product of S_a, S_b, ..., and permutations of the copies."""
    return [(n, 1, 0), *((size, n, n) for size in sizes)]


def real(*shape: int) -> Callable[[int], Tensor]:
    return lambda n: torch.randn(n, *shape, generator=torch.Generator().manual_seed(7))


def words(length: int, vocabulary: int) -> Callable[[int], Tensor]:
    generator = torch.Generator().manual_seed(7)
    table = torch.randint(vocabulary, (8, length), generator=generator)
    return lambda n: table[:n]


def given(*inputs: Callable[[int], Tensor]) -> Inputs:
    return lambda n: tuple(x(n) for x in inputs)


FLAT = given(real(3))
SEQUENCE = given(real(4, 3))
IMAGE = given(real(3, 6, 6))
TOKENS = given(words(5, 7))
