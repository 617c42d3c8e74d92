"""What a symmetry group is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Block:
    """Units that may be permuted freely: ``size`` of them under each of ``count`` parents."""

    name: str
    size: int
    parent: str | None = None
    count: int = 1
    """Units of the parent block; 1 for a block without parent."""
    axes: tuple[tuple[str, int], ...] = ()
    """The parameter axes, ``(name, dim)``, that it moves."""

    @property
    def units(self) -> int:
        return self.size * self.count

    @property
    def log_order(self) -> float:
        """Natural logarithm of the number of its permutations."""
        return self.count * math.lgamma(self.size + 1)


@dataclass(frozen=True, eq=False)
class Segment:
    """Part of one axis (or of several, flattened in C order) as a product of blocks.

    ``positions`` has one dimension per block, and a last one for the copies that move along
    unchanged: the channels of a flattened feature map are ``(c, h * w)``.
    """

    blocks: tuple[str, ...]
    positions: NDArray[np.int64]
    parents: tuple[int, ...]
    """Per block, which of the earlier dimensions is its parent; -1 for none."""


@dataclass(frozen=True, eq=False)
class AxisGroup:
    """Axes of one parameter that move together, as a sum of segments."""

    axes: tuple[int, ...]
    segments: tuple[Segment, ...]


@dataclass(frozen=True, eq=False)
class ParameterSymmetry:
    """How one stored tensor moves; axes in no group stay where they are."""

    names: tuple[str, ...]
    """All names of the tensor in the model; more than one where it is tied."""
    shape: tuple[int, ...]
    is_buffer: bool
    groups: tuple[AxisGroup, ...] = ()

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def moving_share(self) -> float:
        """The share of entries that some permutation moves."""
        still = 1.0
        for group in self.groups:
            moving = sum(s.positions.size for s in group.segments if s.blocks)
            still *= 1.0 - moving / math.prod(self.shape[a] for a in group.axes)
        return 1.0 - still


@dataclass(frozen=True)
class Pinned:
    """An axis of a parameter with units that cannot move, and why."""

    parameter: str
    dim: int
    units: int
    reason: str
