"""Write the blocks down on the axes of the parameters: the last step of the analysis."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..errors import ClosureWarning
from ..layouts.adoption import Parameter
from ..layouts.layout import varies_on
from ..layouts.units import Ids, Units, mix
from ..propagation.constraint_graph import Evidence
from ..propagation.dispatch import Propagation
from ..symmetry.group import AxisGroup, Block, ParameterSymmetry, Pinned, Segment, Symmetry
from .blocks import Atom, Classes, Indices, RawBlock, dimensions
from .claims import refute
from .colours import refine_units


@dataclass
class _RawSegment:
    blocks: list[RawBlock]
    parents: tuple[int, ...]
    positions: NDArray[np.int64]


@dataclass
class _RawParameter:
    parameter: Parameter
    groups: list[tuple[tuple[int, ...], list[_RawSegment]]] = field(default_factory=list)


class _NotClosedError(Exception):
    """The entries of a parameter do not form complete products of blocks."""

    def __init__(self, units: Ids) -> None:
        super().__init__()
        self.units = units


def build_symmetry(found: Propagation) -> Symmetry:
    """Refine the units and describe every parameter by segments of the blocks found.

    Warns:
        ClosureWarning: a parameter is not a union of products of blocks; its units were pinned.
    """
    units, parameters = found.units, [*found.parameters, *found.outputs]
    while True:
        classes = refine_units(units, parameters)
        raw = []
        for parameter in parameters:
            try:
                raw.append(_describe(units, classes, parameter))
            except _NotClosedError as failure:
                warnings.warn(
                    f"{parameter.name} does not close under the permutations of its units; "
                    f"{len(failure.units)} units were pinned",
                    ClosureWarning,
                    stacklevel=2,
                )
                units.pin(failure.units, f"{parameter.name} does not close under permutations")
                break
        else:
            pinned = _pinned_axes(units, classes, found.parameters)
            symmetry = _named(raw, pinned, classes, found)
            if not refute(units, classes, parameters, symmetry):
                return symmetry


def pin_blocks(found: Propagation, names: Sequence[str]) -> None:
    """Pin the units of blocks whose permutations were seen to change the model's function."""
    for name in names:
        found.units.site = ""
        found.units.pin(found.units_of_block[name], "was refuted by a test on random weights")


def _describe(units: Units, classes: Classes, parameter: Parameter) -> _RawParameter:
    result = _RawParameter(parameter)
    coordinates = parameter.named()
    moving = [c for c in coordinates if _moves(units, classes, c)]
    for axes in _joined_axes(moving, len(parameter.shape)):
        inside = [c for c in coordinates if varies_on(c) and set(varies_on(c)) <= set(axes)]
        segments = _segments(units, classes, parameter.shape, axes, inside)
        result.groups.append((axes, segments))
    return result


def _moves(units: Units, classes: Classes, coordinate: Ids) -> bool:
    found = np.unique(classes.of_unit[units.find(coordinate)])
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
    for k in np.unique(class_ids).tolist():
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
        raise _NotClosedError(np.unique(np.concatenate(roots)))
    if not dims:
        return _RawSegment([], (), where)
    positions = np.full(shape, -1, dtype=np.int64)
    positions[(*(i % block.size for block, i in dims), copies.ravel())] = where
    if (positions < 0).any():
        raise _NotClosedError(np.unique(np.concatenate(roots)))
    return _RawSegment([block for block, _ in dims], tuple(parents), positions)


def _pinned_axes(units: Units, classes: Classes, parameters: list[Parameter]) -> tuple[Pinned, ...]:
    """Per parameter axis, how many of its units cannot move and the commonest reason."""
    fixed = np.array([not c.atoms for c in classes.classes])
    result = []
    for parameter in parameters:
        if not parameter.coordinates:
            for dim, n in enumerate(parameter.shape):
                if n > 1 and not parameter.is_buffer:
                    reason = "is not used on the traced path"
                    result.append(Pinned(parameter.name, dim, n, reason))
            continue
        for dim in range(len(parameter.shape)):
            ids = [np.unique(units.find(c)) for c in parameter.named() if varies_on(c) == (dim,)]
            ids = [i[i > 0] for i in ids]
            if not ids or any((~fixed[classes.of_unit[i]]).any() for i in ids):
                ids = [
                    i[fixed[classes.of_unit[i]]] for i in ids if not fixed[classes.of_unit[i]].all()
                ]
            if not ids or not ids[0].size:
                continue
            cause, counts = np.unique(units.cause(ids[0]), return_counts=True)
            commonest = int(cause[counts.argmax()])
            reason = str(units.causes[commonest]) if commonest else "differs from every other unit"
            result.append(Pinned(parameter.name, dim, len(ids[0]), reason))
    return tuple(result)


def _named(
    raw: list[_RawParameter], pinned: tuple[Pinned, ...], classes: Classes, found: Propagation
) -> Symmetry:
    """Give every block the name of the first parameter axis that it moves."""
    axes: dict[RawBlock, list[tuple[str, int]]] = {}
    for r in raw:
        for group, segments in r.groups:
            for segment in segments:
                for block in segment.blocks:
                    for axis in group:
                        entry = (r.parameter.name, axis)
                        if entry not in axes.setdefault(block, []):
                            axes[block].append(entry)
    names: dict[RawBlock, str] = {}
    for block, moved in axes.items():
        base = f"{moved[0][0]}[{moved[0][1]}]"
        taken = sum(name.partition("#")[0] == base for name in names.values())
        names[block] = f"{base}#{taken + 1}" if taken else base
    for block, name in names.items():
        block.name = name
    blocks = {
        name: Block(
            name,
            block.size,
            names[block.parent] if block.parent else None,
            block.count,
            tuple(axes[block]),
        )
        for block, name in names.items()
    }
    parameters = tuple(
        ParameterSymmetry(
            r.parameter.names,
            r.parameter.shape,
            r.parameter.is_buffer,
            tuple(
                AxisGroup(
                    group,
                    tuple(
                        Segment(tuple(names[b] for b in s.blocks), s.positions, s.parents)
                        for s in segments
                    ),
                )
                for group, segments in r.groups
            ),
        )
        for r in raw
    )
    found.units_of_block = {
        name: np.concatenate(
            [c.units for c in classes.classes if any(b is block for b, _ in c.atoms)]
        )
        for block, name in names.items()
    }
    stored = len(found.parameters)
    return Symmetry(
        blocks,
        parameters[:stored],
        pinned,
        dict(found.unknown_ops),
        outputs=parameters[stored:],
        notes=_notes(found),
        evidence=Evidence(found.graph, found.sources),
    )


def _notes(found: Propagation) -> tuple[str, ...]:
    if not found.values_read:
        return ()
    where = ", ".join(list(found.values_read)[:3])
    return (
        f"control flow reads values of tensors (at {where}): the answer holds for the path that "
        "the example inputs take",
    )
