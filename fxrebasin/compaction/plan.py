"""What is cut: how many units of each block, and the permutation that puts these last.

Once the units that go are the last ones under every parent, what is left of a tensor is a box: a
leading part of each of its blocks. So heads that lose different features, or groups that lose
different channels, need no thought of their own, as long as all lose as many.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from ..symmetry.action import Indices, flat_indices
from ..symmetry.group import Symmetry
from ..symmetry.parts import ParameterSymmetry
from ..symmetry.permutation import Permutation
from .candidates import Chosen


class NotABoxError(ValueError):
    """What would be left of a tensor is not a leading part of its axes."""


@dataclass(frozen=True, eq=False)
class Plan:
    """How many units of each block are left, and what puts the others last."""

    permutation: Permutation
    sizes: Mapping[str, int]
    """Per block, the units that are left under each parent."""
    kept_back: Mapping[str, int]
    """Per block, how many units were chosen and stay, under parents that stay."""

    @property
    def removed(self) -> dict[str, int]:
        """Per block that loses any, how many units it loses under each parent."""
        blocks = self.permutation.symmetry.blocks
        lost = {name: blocks[name].size - size for name, size in self.sizes.items()}
        return {name: n for name, n in lost.items() if n}


def plan_of(symmetry: Symmetry, chosen: Chosen) -> Plan:
    """The plan that cuts chosen units, as many under every parent, and never all of them."""
    indices = dict(Permutation.identity(symmetry).indices)
    sizes = {block.name: block.size for block in symmetry}
    kept_back: dict[str, int] = {}
    alive: dict[str, Indices] = {}
    for block in symmetry:
        dead = chosen.get(block.name, np.zeros((block.count, block.size), dtype=bool))
        above = np.ones(1, dtype=bool) if block.parent is None else alive[block.parent]
        most = int(dead[above].sum(axis=1).min())
        lost = min(most, block.size - 1)
        gone = dead & (np.cumsum(dead, axis=1) <= lost)
        order = np.argsort(gone, axis=1, kind="stable")
        if block.parent is not None:  # rows come in the order in which parents do
            order = order[flat_indices(symmetry.blocks, indices, block.parent)]
        indices[block.name] = order
        sizes[block.name] = block.size - lost
        kept_back[block.name] = int((dead & ~gone)[above].sum())
        alive[block.name] = (~gone & above[:, None]).ravel()
    return Plan(Permutation(symmetry, indices), sizes, kept_back)


def kept_on_axes(tensor: ParameterSymmetry, plan: Plan) -> dict[int, Indices]:
    """Per axis of a tensor that becomes shorter, the places on it that are left.

    Raises:
        NotABoxError: the entries that are left are not all combinations of such places.
    """
    result: dict[int, Indices] = {}
    for group in tensor.groups:
        sizes = [tensor.shape[axis] for axis in group.axes]
        kept = np.ones(prod(sizes), dtype=bool)
        for segment in group.segments:
            inside = [slice(plan.sizes.get(name)) for name in segment.blocks]
            kept[segment.positions] = not inside
            kept[segment.positions[tuple(inside)]] = True
        kept = kept.reshape(sizes)
        axes = range(kept.ndim)
        places = [kept.any(axis=tuple(j for j in axes if j != k)) for k in axes]
        if kept.sum() != prod(int(place.sum()) for place in places):
            raise NotABoxError(f"what would be left of {tensor.name!r} has no rectangular shape")
        for axis, place in zip(group.axes, places, strict=True):
            if not place.all():
                result[axis] = np.flatnonzero(place)
    return result
