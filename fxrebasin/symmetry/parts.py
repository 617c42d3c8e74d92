"""What a symmetry group is made of: plain data, by which its other forms are made.

A :class:`Block` is a set of units that may be permuted freely. A :class:`Segment` says where such
units lie on an axis of a tensor, an :class:`AxisGroup` is a sum of segments, and a
:class:`ParameterSymmetry` has the groups of one tensor. What reads a whole group and needs no more
than these, such as its tables and drawings, takes a :class:`Group`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..layouts.causes import PinKind
from .kinds import Kinds


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

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Segment)
            and (self.blocks, self.parents) == (other.blocks, other.parents)
            and np.array_equal(self.positions, other.positions)
        )

    def __hash__(self) -> int:
        return hash((self.blocks, self.parents, self.positions.shape))


@dataclass(frozen=True)
class AxisGroup:
    """Axes of one parameter that move together, as a sum of segments."""

    axes: tuple[int, ...]
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
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
    kind: PinKind
    text: str
    """What is said about each of these units: "is an output of the model"."""
    op: str = ""
    """The op that pinned them, if it was one."""
    node: str = ""
    """The node of the model's graph at which that happened."""

    @property
    def reason(self) -> str:
        """What is said about them, and where that was found."""
        return f"{self.text} (at {self.node})" if self.node else self.text


class Group(Protocol):
    """What the other forms of a symmetry are made from."""

    @property
    def blocks(self) -> Mapping[str, Block]: ...
    @property
    def parameters(self) -> tuple[ParameterSymmetry, ...]: ...
    @property
    def outputs(self) -> tuple[ParameterSymmetry, ...]: ...
    @property
    def pinned(self) -> tuple[Pinned, ...]: ...
    @property
    def unknown_ops(self) -> Mapping[str, int]: ...
    @property
    def front_end(self) -> str: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def untouched(self) -> tuple[str, ...]: ...
    @property
    def tested_at(self) -> str: ...
    @property
    def kinds(self) -> Kinds: ...
    @property
    def block_count(self) -> int: ...
    @property
    def movable_units(self) -> int: ...
    @property
    def log_order(self) -> float: ...
    @property
    def coverage(self) -> float: ...
    @property
    def units_not_understood(self) -> int: ...
    @property
    def not_understood(self) -> float: ...


def cost_of_op(group: Group, op: str) -> int:
    """How many units on axes of parameters cannot move because of an op."""
    return sum(pin.units for pin in group.pinned if pin.op == op)
