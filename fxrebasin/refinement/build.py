"""From the units of a run to the symmetry group: blocks, segments, names, pins."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from ..errors import ClosureWarning
from ..layouts.coordinates import varies_on
from ..layouts.facts import Propagation
from ..layouts.layout import Parameter
from ..layouts.units import Units
from ..symmetry.evidence import Evidence
from ..symmetry.group import Symmetry
from ..symmetry.parts import AxisGroup, Block, ParameterSymmetry, Pinned, Segment
from .blocks import Classes, RawBlock
from .claims import refute
from .colours import refine_units
from .segments import NotClosedError, RawParameter, describe


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
                raw.append(describe(units, classes, parameter))
            except NotClosedError as failure:
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
    raw: list[RawParameter], pinned: tuple[Pinned, ...], classes: Classes, found: Propagation
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
