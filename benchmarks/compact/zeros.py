"""Units set to zero, as structured pruning leaves them."""

from __future__ import annotations

from collections.abc import Collection
from math import prod
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fxrebasin import Symmetry
from fxrebasin.compaction.unit_weights import units_along
from fxrebasin.symmetry.parts import AxisGroup

M = TypeVar("M", bound=nn.Module)
Chosen = dict[str, NDArray[np.bool_]]
"""Per block, whether each of its units, counted over all parents, is set to zero."""


def draw_units(
    symmetry: Symmetry, share: float, *, leave: Collection[str] = (), seed: int = 0
) -> Chosen:
    """A share of the units of every block, as many under every parent; at least one is left."""
    generator = np.random.default_rng(seed)
    found = {}
    for block in symmetry:
        count = 0 if block.name in leave else min(int(share * block.size), block.size - 1)
        chosen = np.zeros((block.count, block.size), dtype=bool)
        for row in chosen:
            row[generator.permutation(block.size)[:count]] = True
        found[block.name] = chosen.ravel()
    return found


@torch.no_grad()
def zero_units(model: M, symmetry: Symmetry, chosen: Chosen) -> M:
    """Set all parameters of units to zero, in place: what writes, reads and scales them, biases."""
    tensors = dict(model.named_parameters(remove_duplicate=False))
    for parameter in symmetry.parameters:
        for group in parameter.groups if not parameter.is_buffer else ():
            sizes = [parameter.shape[axis] for axis in group.axes]
            dead = _entries(symmetry, chosen, group, prod(sizes)).reshape(sizes)
            others = [1] * (len(parameter.shape) - len(sizes))
            mask = torch.from_numpy(dead.reshape([*sizes, *others]))
            mask = mask.movedim(tuple(range(len(sizes))), group.axes)
            tensors[parameter.name].mul_(~mask)
    return model


def _entries(symmetry: Symmetry, chosen: Chosen, group: AxisGroup, n: int) -> NDArray[np.bool_]:
    dead = np.zeros(n, dtype=bool)
    for segment in group.segments:
        here = np.zeros(segment.positions.shape, dtype=bool)
        for name, units in zip(segment.blocks, units_along(symmetry.blocks, segment), strict=True):
            here |= chosen[name][units]
        dead[segment.positions] = here
    return dead
