"""A network of :mod:`networks`, its group, and random state dicts that it fits."""

from __future__ import annotations

import copy
from functools import cache

import torch
from networks import NETWORKS
from torch import Tensor

import fxrebasin as fr
from benchmarks.measuring.random_weights import randomise
from fxrebasin import Symmetry

State = dict[str, Tensor]


@cache
def random_states(name: str, count: int) -> tuple[Symmetry, tuple[State, ...]]:
    """The group, and the weights of some models."""
    network = NETWORKS[name]
    torch.manual_seed(0)
    model = network.factory()
    symmetry = fr.analyze(model, args=network.inputs(2))
    seeds = range(1, count + 1)
    return symmetry, tuple(
        dict(randomise(copy.deepcopy(model), seed).state_dict()) for seed in seeds
    )


def random_pair(name: str) -> tuple[Symmetry, State, State]:
    """The group, the weights of A, and those of B."""
    symmetry, (a, b) = random_states(name, 2)
    return symmetry, a, b
