"""What is done to one coordinate: an array of unit ids that varies along some dims of a tensor.

A coordinate has as many dims as the tensor, and size 1 along every dim that it does not vary on.
Three channels of feature maps of shape ``(2, 3, 8, 8)``:

>>> channels = along(np.array([7, 8, 9]), 1, 4)
>>> channels.shape, varies_on(channels)
((1, 3, 1, 1), (1,))
"""

from __future__ import annotations

from math import prod

import numpy as np
import torch

from .ids import Ids, mix, sorted_set
from .units import Units

Shape = tuple[int, ...]

Regrouping = list[tuple[tuple[int, ...], tuple[int, ...]]]
"""Runs of dims before and after a reshape that hold the same entries."""


def varies_on(coordinate: Ids) -> tuple[int, ...]:
    """The dims along which a coordinate does not have the same units everywhere."""
    return tuple(d for d, n in enumerate(coordinate.shape) if n > 1)


def overlap(x: Ids, y: Ids) -> bool:
    """Do two coordinates vary along a common dim?"""
    return any(n > 1 and m > 1 for n, m in zip(x.shape, y.shape, strict=True))


def all_distinct(coordinates: list[Ids], dims: tuple[int, ...]) -> bool:
    """Do any two entries whose positions differ along ``dims`` alone differ in a coordinate?"""
    alone = {varies_on(c)[0]: c for c in coordinates if len(varies_on(c)) == 1}
    if all(d in alone and len(sorted_set(alone[d])) == alone[d].size for d in dims):
        return True
    key = np.zeros((1,) * coordinates[0].ndim, dtype=np.uint64)
    for c in coordinates:
        key = mix(key) + mix(c, 1)
    sizes = [key.shape[d] for d in dims]
    if any(n == 1 for n in sizes):
        return False
    rows = np.moveaxis(key, dims, range(-len(dims), 0)).reshape(-1, prod(sizes))
    rows = np.sort(rows, axis=1)
    return not (rows[:, 1:] == rows[:, :-1]).any()


def along(ids: Ids, dim: int, ndim: int) -> Ids:
    """An array of ids as a coordinate, of ``ndim`` dims, that varies on ``dim`` alone."""
    return ids.reshape([-1 if d == dim else 1 for d in range(ndim)])


def positional(units: Units, shape: Shape, dims: tuple[int, ...] | None = None) -> list[Ids]:
    """Pinned coordinates with a unit for every position along ``dims`` (default: all)."""
    dims = tuple(range(len(shape))) if dims is None else dims
    return [along(units.positions(d, shape[d]), d, len(shape)) for d in dims if shape[d] > 1]


def collapse(coordinate: Ids) -> Ids:
    """Shrink to size 1 every dim along which all ids are equal."""
    for d, n in enumerate(coordinate.shape):
        if n > 1:
            first = coordinate.take([0], axis=d)
            if np.array_equal(first, coordinate.take([-1], axis=d)) and (coordinate == first).all():
                coordinate = first
    return coordinate


def pad_dims(coordinate: Ids, ndim: int) -> Ids:
    """Add dims in front, as broadcasting does."""
    if coordinate.ndim == ndim:
        return coordinate
    return coordinate.reshape((1,) * (ndim - coordinate.ndim) + coordinate.shape)


def regroup(before: Shape, after: Shape) -> Regrouping:
    """Pair runs of dims that hold the same entries: ``(2, 6), (2, 3, 2) -> [0 : 0], [1 : 1 2]``."""
    if 0 in before or 0 in after:
        return [(tuple(range(len(before))), tuple(range(len(after))))]
    runs: Regrouping = []
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
        runs.append((tuple(range(i0, i)), tuple(range(j0, j))))
    return runs


def reshape_coordinate(coordinate: Ids, before: Shape, after: Shape, runs: Regrouping) -> Ids:
    """Reshape in C order; only the runs of dims that the coordinate varies on are expanded."""
    expanded, result = [], []
    for old, new in runs:
        varies = any(coordinate.shape[d] > 1 for d in old)
        expanded += [before[d] if varies else 1 for d in old]
        result += [after[d] if varies else 1 for d in new]
    return collapse(np.broadcast_to(coordinate, expanded).reshape(result))


def as_tensor(coordinate: Ids) -> torch.Tensor:
    """A coordinate as a tensor; views that numpy made read-only are copied."""
    return torch.from_numpy(coordinate if coordinate.flags.writeable else coordinate.copy())
