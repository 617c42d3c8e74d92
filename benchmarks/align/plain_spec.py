"""A permutation spec, as git-re-basin knows it, with as little added as concatenations need.

The plain form names one permutation per axis. Here an axis may be a sum of parts, each with a
permutation of its own, and a unit may have several entries (the pixels of a flattened channel).
What needs more than that, blocks nested in others or axes that move jointly, stays in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import fxrebasin as fr
from fxrebasin.errors import UnsupportedSymmetryError
from fxrebasin.symmetry.parts import ParameterSymmetry

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Part:
    """Entries along one axis of a tensor that a permutation moves."""

    axis: int
    permutation: str
    positions: Indices
    """Shape ``(units, copies)``: where the entries of every unit lie along the axis."""


@dataclass(frozen=True, eq=False)
class PlainSpec:
    """Which permutations move which parts of which tensors."""

    sizes: Mapping[str, int]
    """Per permutation, how many units it permutes."""
    parts: Mapping[str, tuple[Part, ...]]
    """Per parameter, what moves in it."""
    whole: bool
    """Whether one permutation per axis was enough."""


def plain_spec(symmetry: fr.Symmetry) -> PlainSpec:
    """As much of a symmetry as permutations of units that are not nested can express.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> spec = plain_spec(fr.analyze(net, args=(torch.zeros(1, 2),)))
    >>> [(name, part.axis) for name, parts in spec.parts.items() for part in parts]
    [('0.weight', 0), ('0.bias', 0), ('2.weight', 1)]
    """
    try:
        axes = symmetry.to_permutation_spec()
    except UnsupportedSymmetryError:
        return flat_spec(symmetry)
    sizes = {block.name: block.size for block in symmetry}
    parts = {
        p.name: tuple(
            Part(axis, name, np.arange(sizes[name])[:, None])
            for axis, name in enumerate(axes[p.name])
            if name is not None
        )
        for p in _parameters(symmetry)
    }
    return PlainSpec(sizes, parts, whole=True)


def flat_spec(symmetry: fr.Symmetry) -> PlainSpec:
    """The blocks that are neither nested nor joined with others; all others stay in place."""
    unfit = {name for block in symmetry if block.parent for name in (block.name, block.parent)}
    for p in symmetry.parameters:
        for group in p.groups:
            for segment in group.segments:
                if len(group.axes) > 1 or len(segment.blocks) > 1:
                    unfit.update(segment.blocks)
    sizes = {block.name: block.size for block in symmetry if block.name not in unfit}
    parts = {
        p.name: tuple(
            Part(group.axes[0], segment.blocks[0], segment.positions)
            for group in p.groups
            for segment in group.segments
            if segment.blocks and segment.blocks[0] in sizes
        )
        for p in _parameters(symmetry)
    }
    return PlainSpec(sizes, parts, whole=False)


def _parameters(symmetry: fr.Symmetry) -> list[ParameterSymmetry]:
    return [p for p in symmetry.parameters if not p.is_buffer]
