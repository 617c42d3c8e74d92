"""Layouts: what a tensor looks like when it holds units instead of numbers.

A *coordinate* is an integer array of unit ids, as many dimensions as the tensor, size 1 along
every dimension that it does not vary on. The output ``(B, T, C)`` of a linear layer has one of
shape ``(1, 1, C)`` for its features, and ``(B, 1, 1)`` and ``(1, T, 1)`` for the pinned positions.

A *layout* is a shape and a list of coordinates, and its meaning is one sentence: entries with the
same units in every coordinate hold the same value, whatever the weights are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from .coordinates import Shape, along, regroup, reshape_coordinate
from .ids import NOWHERE, Ids

UNNAMED = -1


@dataclass(eq=False)
class Parameter:
    """One stored tensor (parameter or buffer) with all the names it has in the model."""

    names: tuple[str, ...]
    shape: Shape
    is_buffer: bool
    positions: tuple[Ids, ...]
    """Per axis, the units that name its positions and become its units if none are adopted."""
    coordinates: list[Ids] = field(default_factory=list)
    """The units of its entries; ``UNNAMED`` where not decided yet."""
    in_groups: dict[int, Ids] = field(default_factory=dict)
    """Coordinates for axes whose own units differ by the group of a second axis."""

    @property
    def name(self) -> str:
        return self.names[0]

    def layout(self) -> Layout:
        ndim = len(self.shape)
        coordinates = [along(ids, a, ndim) for a, ids in enumerate(self.positions) if len(ids) > 1]
        return Layout(self.shape, tuple(coordinates), self if coordinates else None)

    def named(self) -> list[Ids]:
        """Its coordinates, with the entries that nothing has named made explicit."""
        return [np.where(c == UNNAMED, NOWHERE, c) for c in self.coordinates]

    def index(self, layout: Layout) -> dict[int, Ids]:
        """Per axis of this parameter, the position that each entry of ``layout`` comes from."""
        index = {}
        for coordinate in layout.coordinates:
            probe = coordinate.flat[0]
            for axis, ids in enumerate(self.positions):
                if ids[0] <= probe <= ids[-1]:
                    index[axis] = coordinate - ids[0]
        return index


@dataclass(frozen=True, eq=False)
class Layout:
    """The abstract value of a tensor."""

    shape: Shape
    coordinates: tuple[Ids, ...] = ()
    parameter: Parameter | None = field(default=None, repr=False)
    """Set while the coordinates only name positions of this parameter (see ``parameters``)."""
    value: torch.Tensor | None = field(default=None, repr=False)
    """The numbers themselves, where they depend on neither inputs nor parameters."""

    order_of: Layout | None = field(default=None, repr=False)
    """Set where the entries are positions of that tensor's units: reading them pins those."""
    buffer: Parameter | None = field(default=None, repr=False)
    """The buffer of the model that a constant is."""

    def __post_init__(self) -> None:
        if 0 in self.shape:  # there are no entries that coordinates could tell apart
            kept = tuple(c for c in self.coordinates if c.size)
            object.__setattr__(self, "coordinates", kept)
            object.__setattr__(self, "parameter", None)
        for coordinate in self.coordinates:
            assert coordinate.ndim == len(self.shape), (coordinate.shape, self.shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def as_parameter(self) -> Layout:
        """For a buffer that holds statistics of units: its layout as a parameter's."""
        return self if self.buffer is None else self.buffer.layout()


def permute_dims(layout: Layout, order: tuple[int, ...]) -> Layout:
    shape = tuple(layout.shape[d] for d in order)
    moved = tuple(c.transpose(order) for c in layout.coordinates)
    return Layout(shape, moved, layout.parameter)


def reshape(layout: Layout, shape: Shape) -> Layout:
    """Reshape in C order; a coordinate is expanded only inside the groups of dims it varies on."""
    groups = regroup(layout.shape, shape)
    return Layout(
        shape,
        tuple(reshape_coordinate(c, layout.shape, shape, groups) for c in layout.coordinates),
        layout.parameter,
    )
