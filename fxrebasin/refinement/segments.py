"""Write the blocks down on the axes of the parameters: the last step of the analysis."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..layouts.coordinates import varies_on
from ..layouts.ids import Ids, mix, sorted_set
from ..layouts.layout import Parameter
from ..layouts.units import Units
from .blocks import Atom, Classes, Indices, RawBlock, dimensions


@dataclass
class _RawSegment:
    blocks: list[RawBlock]
    parents: tuple[int, ...]
    positions: NDArray[np.int64]


@dataclass
class RawParameter:
    parameter: Parameter
    groups: list[tuple[tuple[int, ...], list[_RawSegment]]] = field(default_factory=list)


class NotClosedError(Exception):
    """The entries of a parameter do not form complete products of blocks."""

    def __init__(self, units: Ids) -> None:
        super().__init__()
        self.units = units


def describe(units: Units, classes: Classes, parameter: Parameter) -> RawParameter:
    result = RawParameter(parameter)
    coordinates = parameter.named()
    moving = [c for c in coordinates if _moves(units, classes, c)]
    for axes in _joined_axes(moving, len(parameter.shape)):
        inside = [c for c in coordinates if varies_on(c) and set(varies_on(c)) <= set(axes)]
        reaching = [c for c in coordinates if not set(axes).isdisjoint(varies_on(c))]
        beyond = [c for c in reaching if not set(varies_on(c)) <= set(axes)]
        segments = _segments(units, classes, parameter.shape, axes, inside, beyond)
        result.groups.append((axes, segments))
    return result


def _moves(units: Units, classes: Classes, coordinate: Ids) -> bool:
    found = sorted_set(classes.of_unit[units.find(coordinate)])
    return any(classes.classes[k].atoms for k in found.tolist())


def _joined_axes(coordinates: list[Ids], ndim: int) -> list[tuple[int, ...]]:
    """Axes that a common coordinate varies on, joined; axes that none varies on are left out."""
    groups: list[set[int]] = []
    for c in coordinates:
        joined = set(varies_on(c))
        if joined:
            touching = [g for g in groups if g & joined]
            groups = [g for g in groups if not g & joined]
            groups.append(joined.union(*touching))
    return sorted(tuple(sorted(g)) for g in groups)


def _segments(
    units: Units,
    classes: Classes,
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    coordinates: list[Ids],
    beyond: list[Ids],
) -> list[_RawSegment]:
    sizes = [n if a in axes else 1 for a, n in enumerate(shape)]
    n = math.prod(sizes)
    entries = [np.broadcast_to(c, sizes).ravel() for c in coordinates]
    roots = [units.find(ids) for ids in entries]
    class_ids = [classes.of_unit[r] for r in roots]
    fixed = np.array([not c.atoms for c in classes.classes])
    kind = np.zeros(n, dtype=np.uint64)
    copy = np.zeros(n, dtype=np.uint64)
    for ids, root, class_id in zip(entries, roots, class_ids, strict=True):
        still = fixed[class_id]
        kind = mix(kind) + mix(np.where(still, -1, class_id), 1)
        member = mix(units.member(ids) + class_id.astype(np.uint64), 2)
        copy = mix(copy) + np.where(still, mix(root, 3), member)
    if beyond and _repeat(entries):
        copy = copy + _differing(units, beyond, sizes)
    kind = _by_blocks(classes, class_ids, fixed, kind)
    result = []
    values, begins = np.unique(kind, return_index=True)
    for value in values[np.argsort(begins)]:
        where = np.flatnonzero(kind == value)
        atoms: list[Atom] = []
        for root, class_id in zip(roots, class_ids, strict=True):
            found = classes.classes[class_id[where[0]]]
            if found.atoms:
                atoms += _atoms_at(classes, root[where])
        result.append(_segment(atoms, where, copy[where], [r[where] for r in roots]))
    return result


def _repeat(entries: list[Ids]) -> bool:
    """Do several entries have the same ids, as where a value is joined to entries of itself?"""
    alike = sum((mix(ids, 5 + k) for k, ids in enumerate(entries)), np.uint64(0))
    return len(np.unique(alike)) < alike.size


def _differing(units: Units, coordinates: list[Ids], sizes: list[int]) -> NDArray[np.uint64]:
    """A hash per entry of all that coordinates say of it which vary on other axes as well."""
    found = np.zeros(math.prod(sizes), dtype=np.uint64)
    within = [a for a, n in enumerate(sizes) if n > 1]
    for c in coordinates:
        roots = np.moveaxis(units.find(c), within, range(len(within)))
        rest = roots.shape[len(within) :]
        rows = np.broadcast_to(roots, (*(sizes[a] for a in within), *rest))
        rows = rows.reshape(len(found), -1)
        places = mix(np.arange(rows.shape[1]), 6)
        found = mix(found) + (mix(rows, 7) * places).sum(1, dtype=np.uint64)
    return found


def _by_blocks(
    classes: Classes, class_ids: list[Indices], fixed: NDArray[np.bool_], kind: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """Merge kinds of entries that lie in the same blocks: copies of one another."""
    values, first, inverse = np.unique(kind, return_index=True, return_inverse=True)
    merged: dict[tuple[tuple[int, ...], ...], int] = {}
    table = np.empty(len(values), dtype=np.uint64)
    for k, entry in enumerate(first.tolist()):
        blocks = tuple(
            tuple(id(block) for block, _ in classes.classes[ids[entry]].atoms) for ids in class_ids
        )
        table[k] = merged.setdefault(blocks, len(merged))
    return table[inverse.ravel()]


def _atoms_at(classes: Classes, roots: Ids) -> list[Atom]:
    """The atoms of entries that all lie in the same blocks."""
    class_ids = classes.of_unit[roots]
    first = classes.classes[class_ids[0]]
    merged = [np.empty(len(roots), dtype=np.int64) for _ in first.atoms]
    for k in sorted_set(class_ids).tolist():
        here = class_ids == k
        where = classes.index[roots[here]]
        for target, (_, index) in zip(merged, classes.classes[k].atoms, strict=True):
            target[here] = index[where]
    return [(block, target) for (block, _), target in zip(first.atoms, merged, strict=True)]


def _segment(
    atoms: list[Atom], where: Indices, copy: NDArray[np.uint64], roots: list[Ids]
) -> _RawSegment:
    dims, parents = dimensions(atoms)
    values, copies = np.unique(copy, return_inverse=True)
    shape = [block.size for block, _ in dims] + [len(values)]
    if dims and math.prod(shape) != len(where):
        raise NotClosedError(np.unique(np.concatenate(roots)))
    if not dims:
        return _RawSegment([], (), where)
    positions = np.full(shape, -1, dtype=np.int64)
    positions[(*(i % block.size for block, i in dims), copies.ravel())] = where
    if (positions < 0).any():
        raise NotClosedError(np.unique(np.concatenate(roots)))
    return _RawSegment([block for block, _ in dims], tuple(parents), positions)
