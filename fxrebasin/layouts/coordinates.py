"""What is done to one coordinate: an array of ids that varies along some axes of a tensor."""

from __future__ import annotations

from math import prod

import numpy as np

from .ids import Ids, mix, sorted_set
from .units import Units


def tell_apart(coordinates: list[Ids], dims: tuple[int, ...]) -> bool:
    """Do the coordinates give each entry along ``dims`` a different tuple, all else being fixed?"""
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


Shape = tuple[int, ...]


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


def reshape_coordinate(coordinate: Ids, before: Shape, after: Shape, groups: Groups) -> Ids:
    expanded, result = [], []
    for old, new in groups:
        varies = any(coordinate.shape[d] > 1 for d in old)
        expanded += [before[d] if varies else 1 for d in old]
        result += [after[d] if varies else 1 for d in new]
    return collapse(np.broadcast_to(coordinate, expanded).reshape(result))
