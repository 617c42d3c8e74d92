"""Layouts: what a tensor looks like when it holds units instead of numbers.

A *coordinate* is an integer array of unit ids, as many dimensions as the tensor, size 1 along
every dimension that it does not vary on. The output ``(B, T, C)`` of a linear layer has one of
shape ``(1, 1, C)`` for its features, and ``(B, 1, 1)`` and ``(1, T, 1)`` for the pinned positions.

A *layout* is a shape and a list of coordinates, and its meaning is one sentence: entries with the
same units in every coordinate hold the same value, whatever the weights are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from .units import Ids, Units

if TYPE_CHECKING:
    from .adoption import Parameter

Shape = tuple[int, ...]


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


def varies_on(coordinate: Ids) -> tuple[int, ...]:
    """The dimensions along which a coordinate tells entries apart."""
    return tuple(d for d, n in enumerate(coordinate.shape) if n > 1)


def collapse(coordinate: Ids) -> Ids:
    """Shrink to size 1 every dimension along which all ids are equal."""
    for d, n in enumerate(coordinate.shape):
        if n > 1:
            first = coordinate.take([0], axis=d)
            if np.array_equal(first, coordinate.take([-1], axis=d)) and (coordinate == first).all():
                coordinate = first
    return coordinate


def along(ids: Ids, dim: int, ndim: int) -> Ids:
    """A one-dimensional array of ids as a coordinate that varies on ``dim`` alone."""
    return ids.reshape([-1 if d == dim else 1 for d in range(ndim)])


def positional(units: Units, shape: Shape, dims: tuple[int, ...] | None = None) -> list[Ids]:
    """Pinned coordinates that tell apart every position along ``dims`` (default: all)."""
    dims = tuple(range(len(shape))) if dims is None else dims
    return [along(units.positions(d, shape[d]), d, len(shape)) for d in dims if shape[d] > 1]


def pad_dims(coordinate: Ids, ndim: int) -> Ids:
    """Add leading dimensions, as broadcasting does."""
    return coordinate.reshape((1,) * (ndim - coordinate.ndim) + coordinate.shape)


def permute_dims(layout: Layout, order: tuple[int, ...]) -> Layout:
    shape = tuple(layout.shape[d] for d in order)
    moved = tuple(c.transpose(order) for c in layout.coordinates)
    return Layout(shape, moved, layout.parameter)


def reshape(layout: Layout, shape: Shape) -> Layout:
    """Reshape in C order; a coordinate is expanded only inside the groups of dims it varies on."""
    groups = regroup(layout.shape, shape)
    return Layout(
        shape,
        tuple(_reshape_coordinate(c, layout.shape, shape, groups) for c in layout.coordinates),
        layout.parameter,
    )


Groups = list[tuple[tuple[int, ...], tuple[int, ...]]]


def regroup(before: Shape, after: Shape) -> Groups:
    """Pair runs of dims that hold the same entries: ``(2, 6), (2, 3, 2) -> [0 : 0], [1 : 1 2]``."""
    if 0 in before or 0 in after:
        return [(tuple(range(len(before))), tuple(range(len(after))))]
    groups: Groups = []
    i = j = 0
    while i < len(before) or j < len(after):
        i0, j0 = i, j
        left = right = 1
        if i < len(before):
            left, i = before[i], i + 1
        if j < len(after):
            right, j = after[j], j + 1
        while left != right:
            if left < right:
                left, i = left * before[i], i + 1
            else:
                right, j = right * after[j], j + 1
        groups.append((tuple(range(i0, i)), tuple(range(j0, j))))
    return groups


def _reshape_coordinate(coordinate: Ids, before: Shape, after: Shape, groups: Groups) -> Ids:
    expanded, result = [], []
    for old, new in groups:
        varies = any(coordinate.shape[d] > 1 for d in old)
        expanded += [before[d] if varies else 1 for d in old]
        result += [after[d] if varies else 1 for d in new]
    return collapse(np.broadcast_to(coordinate, expanded).reshape(result))
