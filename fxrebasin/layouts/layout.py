"""Layouts: what a tensor looks like when it holds units in the place of numbers.

A *coordinate* is an integer array of unit ids with as many dims as the tensor, of size 1 along
every dim that it does not vary on. The output ``(b, t, c)`` of a linear layer has one of shape
``(1, 1, c)`` for its features, and two of shapes ``(b, 1, 1)`` and ``(1, t, 1)`` whose units, the
positions in batch and sequence, are pinned.

A *layout* is a shape and a list of coordinates. Its meaning is one sentence: entries with the same
units in every coordinate hold the same value, whatever the weights are.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from .coordinates import Shape, along, pad_dims, regroup, reshape_coordinate
from .ids import NOWHERE, Ids

UNNAMED = -1
"""In the place of the unit of an entry of a parameter that has none yet."""


@dataclass(eq=False)
class Parameter:
    """One stored tensor (parameter or buffer) with all the names it has in the model."""

    names: tuple[str, ...]
    shape: Shape
    is_buffer: bool
    positions: tuple[Ids, ...]
    """Per axis, an id for each position; they become its units if it adopts none."""
    coordinates: list[Ids] = field(default_factory=list)
    """The units of its entries; ``UNNAMED`` where they are not decided yet."""
    in_groups: dict[int, Ids] = field(default_factory=dict)
    """Per axis whose units differ by group, a coordinate of them (see ``grouped_axes``)."""

    @property
    def name(self) -> str:
        return self.names[0]

    def layout(self) -> Layout:
        ndim = len(self.shape)
        coordinates = [along(ids, a, ndim) for a, ids in enumerate(self.positions) if len(ids) > 1]
        return Layout(self.shape, tuple(coordinates), self if coordinates else None)

    def named(self) -> list[Ids]:
        """Its coordinates, with ``NOWHERE`` for entries that no coordinate has given a unit."""
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
    """Which units a tensor is made of: in a rule, what stands for each tensor.

    The methods of :class:`~fxrebasin.Call` make layouts of layouts. A new one is written down only
    for a tensor that no unit reaches, ``Layout(shape)``, such as a constant.

    >>> x = Layout((2, 6), (np.arange(6).reshape(1, 6),))
    >>> x.ndim, x.reshape((2, 3, 2)).coordinates[0].shape
    (2, (1, 3, 2))
    """

    shape: Shape
    coordinates: tuple[Ids, ...] = ()
    """Arrays of unit ids with a dim per dim of the tensor, of size 1 where they do not vary."""
    parameter: Parameter | None = field(default=None, repr=False)
    """Set while this parameter has no units yet: the coordinates are positions of it only."""
    value: torch.Tensor | None = field(default=None, repr=False)
    """The numbers themselves, where they depend on neither inputs nor parameters."""
    order_of: Layout | None = field(default=None, repr=False)
    """Set where the numbers are indices of that tensor's units: reading them pins these units."""
    buffer: Parameter | None = field(default=None, repr=False)
    """The buffer of the model that a constant is."""
    origin: Hashable = field(default=None, repr=False)
    """What the tensor holds entries of, where that is another tensor (see ``entries_of``)."""

    def __post_init__(self) -> None:
        if 0 in self.shape:  # there are no entries that coordinates could give units
            kept = tuple(c for c in self.coordinates if c.size)
            object.__setattr__(self, "coordinates", kept)
            object.__setattr__(self, "parameter", None)
        for coordinate in self.coordinates:
            assert coordinate.ndim == len(self.shape), (coordinate.shape, self.shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def entries_of(self) -> Hashable:
        """The same for tensors that hold entries of one tensor, in coordinates that correspond."""
        return self if self.origin is None else self.origin

    def as_parameter(self) -> Layout:
        """The layout of a buffer that holds statistics of units, as if it were a parameter."""
        return self if self.buffer is None else self.buffer.layout()

    def permute(self, dims: Sequence[int]) -> Layout:
        """The layout of ``tensor.permute(dims)``."""
        shape = tuple(self.shape[d] for d in dims)
        moved = tuple(c.transpose(dims) for c in self.coordinates)
        return Layout(shape, moved, self.parameter)

    def reshape(self, shape: Shape) -> Layout:
        """The layout of ``tensor.reshape(shape)``, in C order.

        A coordinate is expanded only along the dims that are merged with those it varies on.
        """
        regrouped = regroup(self.shape, shape)
        moved = (reshape_coordinate(c, self.shape, shape, regrouped) for c in self.coordinates)
        return Layout(shape, tuple(moved), self.parameter)

    def expand(self, shape: Shape) -> Layout:
        """The layout of ``tensor.expand(shape)``, which may add dims in front."""
        moved = tuple(pad_dims(c, len(shape)) for c in self.coordinates)
        return Layout(shape, moved, self.parameter)
