"""From the units of a run to the symmetry group: blocks, segments, names, pins.

Units are refined to blocks, and every parameter is described by segments of these. Where that
fails, or a random permutation of the blocks breaks what the analysis has relied on, what is at
fault is pinned or labelled as different, and all is done once more.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ClosureWarning
from ..layouts.causes import Cause, PinKind
from ..layouts.coordinates import varies_on
from ..layouts.facts import Facts
from ..layouts.ids import Ids, sorted_set
from ..layouts.layout import Parameter
from ..layouts.units import Units
from ..symmetry.evidence import Evidence
from ..symmetry.group import Symmetry
from ..symmetry.parts import AxisGroup, Block, ParameterSymmetry, Pinned, Segment
from .blocks import Classes, RawBlock
from .claims import refute
from .colours import refine_units
from .segments import NotClosedError, RawParameter, describe

_UNUSED = Cause(PinKind.UNUSED, "is not used on the traced path")


@dataclass(frozen=True)
class Refinement:
    """A group, and how it hangs together with the units that it was found from."""

    symmetry: Symmetry
    units_of_block: Mapping[str, Ids]
    """Per block, the units whose places it decides."""
    classes: Classes
    names: Mapping[RawBlock, str]
    """What the blocks of these classes are called."""


def build_symmetry(found: Facts) -> Refinement:
    """Refine the units and describe every parameter by segments of the blocks found.

    Args:
        found: what running a model has found; more of its units may be pinned afterwards.

    Warns:
        ClosureWarning: a parameter is not a union of products of blocks; its units were pinned.
    """
    units, parameters = found.units, [*found.parameters, *found.outputs]
    while True:
        classes = refine_units(units, parameters)
        raw = _describe_all(units, classes, parameters)
        if raw is None:
            continue
        axes = _axes_of_blocks(raw)
        names = _names_of_blocks(axes)
        symmetry = _symmetry(raw, classes, axes, names, found)
        if not refute(units, classes, parameters, symmetry, names):
            return Refinement(symmetry, _units_of_blocks(classes, names), classes, names)


def pin_blocks(units: Units, refinement: Refinement, names: Sequence[str]) -> None:
    """Pin the units of blocks whose permutations were seen to change the model's function."""
    units.site = ""
    for name in names:
        text = "was refuted by a test on random weights"
        units.pin(refinement.units_of_block[name], text, PinKind.REFUTED)


def _describe_all(
    units: Units, classes: Classes, parameters: list[Parameter]
) -> list[RawParameter] | None:
    """All parameters by segments; None, and its units pinned, if one is no union of products."""
    raw = []
    for parameter in parameters:
        try:
            raw.append(describe(units, classes, parameter))
        except NotClosedError as failure:
            warnings.warn(
                f"{parameter.name} does not close under the permutations of its units; "
                f"{len(failure.units)} units were pinned",
                ClosureWarning,
                stacklevel=3,
            )
            text = f"{parameter.name} does not close under permutations"
            units.pin(failure.units, text, PinKind.CLOSURE)
            return None
    return raw


def _axes_of_blocks(raw: list[RawParameter]) -> dict[RawBlock, tuple[tuple[str, int], ...]]:
    """Per block, the axes of parameters that it moves, in the order in which they come."""
    axes: dict[RawBlock, dict[tuple[str, int], None]] = {}
    for r in raw:
        for group, segments in r.groups:
            here = dict.fromkeys((r.parameter.name, axis) for axis in group)
            for block in (b for segment in segments for b in segment.blocks):
                axes.setdefault(block, {}).update(here)
    return {block: tuple(moved) for block, moved in axes.items()}


def _names_of_blocks(axes: Mapping[RawBlock, Sequence[tuple[str, int]]]) -> dict[RawBlock, str]:
    """Every block is called after the first axis that it moves, with a number from the second on
    that are called so."""
    times: Counter[str] = Counter()
    names = {}
    for block, ((parameter, dim), *_) in axes.items():
        name = f"{parameter}[{dim}]"
        times[name] += 1
        names[block] = f"{name}#{times[name]}" if times[name] > 1 else name
    return names


def _symmetry(
    raw: list[RawParameter],
    classes: Classes,
    axes: Mapping[RawBlock, tuple[tuple[str, int], ...]],
    names: Mapping[RawBlock, str],
    found: Facts,
) -> Symmetry:
    blocks = {
        name: Block(
            name,
            block.size,
            names[block.parent] if block.parent else None,
            block.count,
            axes[block],
        )
        for block, name in names.items()
    }
    parameters = tuple(_named(r, names) for r in raw)
    stored = len(found.parameters)
    return Symmetry(
        blocks,
        parameters[:stored],
        _pinned_axes(found.units, classes, found.parameters),
        dict(found.unknown_ops),
        outputs=parameters[stored:],
        notes=_notes(found),
        untouched=found.untouched(),
        units_not_understood=_count_not_understood(found.units, found.parameters),
        evidence=Evidence(found.graph, found.sources, found.constant_buffers),
    )


def _named(raw: RawParameter, names: Mapping[RawBlock, str]) -> ParameterSymmetry:
    """A parameter with its segments, the blocks called by their names."""
    groups = tuple(
        AxisGroup(
            axes,
            tuple(
                Segment(tuple(names[b] for b in s.blocks), s.positions, s.parents) for s in segments
            ),
        )
        for axes, segments in raw.groups
    )
    parameter = raw.parameter
    return ParameterSymmetry(parameter.names, parameter.shape, parameter.is_buffer, groups)


def _units_of_blocks(classes: Classes, names: Mapping[RawBlock, str]) -> dict[str, Ids]:
    found: dict[str, list[Ids]] = {name: [] for name in names.values()}
    for c in classes.classes:
        for block in dict.fromkeys(block for block, _ in c.atoms):
            if block in names:
                found[names[block]].append(c.units)
    return {name: np.concatenate(units) for name, units in found.items()}


def _count_not_understood(units: Units, parameters: list[Parameter]) -> int:
    """How many units of parameters an op without a rule has pinned."""
    ids = [c[c > 0] for parameter in parameters for c in parameter.coordinates]
    every = np.unique(units.find(np.concatenate([*ids, np.empty(0, dtype=np.int64)])))
    unknown = [k for k, c in enumerate(units.causes) if c.kind is PinKind.UNKNOWN_OP]
    return int(np.isin(units.cause(every), unknown).sum())


def _pinned_axes(units: Units, classes: Classes, parameters: list[Parameter]) -> tuple[Pinned, ...]:
    """Per parameter axis, how many of its units cannot move and the commonest cause."""
    result = []
    for parameter in parameters:
        for dim, n in enumerate(parameter.shape):
            if parameter.coordinates:
                fixed = _fixed_units(units, classes, parameter, dim)
                if fixed.size:
                    cause, counts = np.unique(units.cause(fixed), return_counts=True)
                    commonest = units.causes[int(cause[counts.argmax()])]
                    result.append(_pinned(parameter, dim, len(fixed), commonest))
            elif n > 1 and not parameter.is_buffer:
                result.append(_pinned(parameter, dim, n, _UNUSED))
    return tuple(result)


def _fixed_units(units: Units, classes: Classes, parameter: Parameter, dim: int) -> Ids:
    """The units along an axis that cannot move; where others beside them do, those among these."""
    is_fixed = np.array([not c.atoms for c in classes.classes])
    every = [sorted_set(units.find(c)) for c in parameter.named() if varies_on(c) == (dim,)]
    every = [ids[ids > 0] for ids in every]
    fixed = [is_fixed[classes.of_unit[ids]] for ids in every]
    beside = [ids[f] for ids, f in zip(every, fixed, strict=True) if not f.all()]
    return next(iter(beside or every), np.empty(0, dtype=np.int64))


def _pinned(parameter: Parameter, dim: int, n: int, cause: Cause) -> Pinned:
    return Pinned(parameter.name, dim, n, cause.kind, cause.text, cause.op, cause.node)


def _notes(found: Facts) -> tuple[str, ...]:
    if not found.values_read:
        return ()
    where = ", ".join(list(found.values_read)[:3])
    return (
        f"control flow reads values of tensors (at {where}): the answer holds for the path that "
        "the example inputs take",
    )
