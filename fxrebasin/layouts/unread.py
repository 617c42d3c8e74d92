"""Entries of parameters, and units, that the example inputs did not read.

Inputs of another length read more of ``position[:, :length]``, or of a layer's outputs. What was
left out is therefore never free on its own and never left behind: entries of a parameter follow
what their axis does where it was read, and units that nothing reads are pinned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from .adoption import look_up
from .causes import PinKind
from .coordinates import along, collapse, varies_on
from .ids import Ids, count_distinct, sorted_set
from .layout import UNNAMED, Layout, Parameter
from .pairs import find_pairs
from .units import Units


@dataclass
class Reading:
    """What the ops of a run have read, and what they have left out."""

    read: list[tuple[tuple[Layout, ...], tuple[Layout, ...]]] = field(default_factory=list)
    """Operands and results of every op that does not only choose entries."""
    chosen: list[tuple[Layout, tuple[Layout, ...]]] = field(default_factory=list)
    """What entries were chosen from, and those that were."""
    unfed: list[tuple[Parameter, int]] = field(default_factory=list)
    """The axes of parameters that were multiplied with nothing but zeros, as a first state is."""


def complete_unread(units: Units, parameters: Sequence[Parameter], reading: Reading) -> None:
    """Decide, after a run, about everything that it did not read."""
    units.site = ""
    for parameter in parameters:
        _complete(units, parameter)
    for parameter, axis in reading.unfed:
        _feed(units, parameters, parameter, axis)
    _pin_left_out(units, reading)


def _complete(units: Units, parameter: Parameter) -> None:
    """Entries without units get those that their axis has wherever it was read."""
    if not any((c == UNNAMED).any() for c in parameter.coordinates):
        return
    named = np.zeros((1,) * len(parameter.shape), dtype=bool)
    for c in parameter.coordinates:
        named = named | (c != UNNAMED)
    in_part = [a for a, n in enumerate(named.shape) if n > 1 and not named.all()]
    for axis in in_part:
        others = tuple(a for a in range(named.ndim) if a != axis)
        was_read = np.flatnonzero(named.any(axis=others))
        if len(was_read) < parameter.shape[axis]:
            parameter.coordinates[:] = [
                _extend(units, c, axis, was_read) for c in parameter.coordinates
            ]


def _extend(units: Units, coordinate: Ids, axis: int, was_read: Ids) -> Ids:
    """A coordinate that holds along all of an axis, where it is one and the same on what was read.

    Where it is not, what lies at the places that were read moves together from now on, so that the
    rest can move with it; units of the axis itself are left as they are.
    """
    if coordinate.shape[axis] == 1 or (coordinate != UNNAMED).all():
        return coordinate
    slices = [units.find(coordinate.take([k], axis=axis)) for k in was_read]
    slices = [np.where(coordinate.take([k], axis=axis) == UNNAMED, UNNAMED, s)
              for k, s in zip(was_read, slices, strict=True)]  # fmt: skip
    slices = [s for s in slices if (s != UNNAMED).any()]
    if not slices or (varies_on(coordinate) == (axis,) and len(slices) > 1):
        return coordinate
    if any(not np.array_equal(one, other) for one, other in pairwise(slices)):
        if all(units.is_pinned(s[s >= 0]).all() for s in slices):
            return coordinate
        _move_together(units, slices)
        slices = [np.where(s == UNNAMED, UNNAMED, units.find(s)) for s in slices]
        if any(not np.array_equal(one, other) for one, other in pairwise(slices)):
            return coordinate
    return collapse(np.where(coordinate == UNNAMED, slices[0], coordinate))


def _move_together(units: Units, slices: Sequence[Ids]) -> None:
    """Equate what lies at the same place of every slice, or pin all of it."""
    for one, other in pairwise(slices):
        a, b = (np.where(s == UNNAMED, UNNAMED, units.find(s)) for s in (one, other))
        if not ((a == UNNAMED) == (b == UNNAMED)).all():
            break
        from_a, from_b = find_pairs(units, a[a >= 0], b[b >= 0])
        one_to_one = count_distinct(from_a) == len(from_a) == count_distinct(from_b)
        movable = not units.is_pinned(from_a).any() and not units.is_pinned(from_b).any()
        differ = from_a != from_b
        if not one_to_one or not movable or np.intersect1d(from_a[differ], from_b[differ]).size:
            break
        units.equate(from_a, from_b)
    else:
        return
    _pin(units, np.concatenate([s[s >= 0] for s in slices]), "lies beside entries that are unread")


def _feed(units: Units, parameters: Sequence[Parameter], weight: Parameter, axis: int) -> None:
    """A state that is zero at first takes, later, the units that the weight makes of it.

    Where that cannot be seen from the weight, nothing on its axes moves.
    """
    own = along(weight.positions[axis], axis, len(weight.shape))
    n = weight.shape[axis]
    if not any(np.array_equal(c, own) for c in weight.coordinates) or n == 1:
        return
    ids = units.find(own.ravel())
    if units.is_pinned(ids).any():
        return
    made = [(weight, a) for a in range(len(weight.shape)) if a != axis]
    projected = {name.replace("weight_hh", "weight_hr") for name in weight.names} - {*weight.names}
    made = [(p, 0) for p in parameters if projected & {*p.names}] or made
    for parameter, made_axis in made:
        beside = [c for c in parameter.coordinates if varies_on(c) == (made_axis,)]
        if len(beside) == 1 and beside[0].size % n == 0 and (beside[0] >= 0).all():
            gates = units.find(beside[0].reshape(-1, n))
            if (gates == gates[0]).all() and not units.is_pinned(gates).any():
                if np.array_equal(gates[0], ids):
                    return
                if not np.intersect1d(gates[0], ids).size:
                    units.equate(gates[0], ids)
                    return
    every = [c[c >= 0].ravel() for c in weight.coordinates]
    _pin(units, np.concatenate([ids, *every]), "meets a state that is zero on the example inputs")


def _pin_left_out(units: Units, reading: Reading) -> None:
    """Pin units that were left out wherever entries were chosen, and that no op has read."""
    left_out = [_units_in(units, [x]) for x, _ in reading.chosen]
    kept = [_units_in(units, chosen) for _, chosen in reading.chosen]
    gone = [_difference(x, y) for x, y in zip(left_out, kept, strict=True)]
    suspects = sorted_set(np.concatenate([*gone, np.empty(0, dtype=np.int64)]))
    suspects = suspects[~units.is_pinned(suspects)]
    for operands, results in reading.read if suspects.size else ():
        used = _difference(_units_in(units, operands), _units_in(units, results))
        suspects = _difference(suspects, used)
    _pin(units, suspects, "is not read on the example inputs")


def _units_in(units: Units, layouts: Sequence[Layout]) -> Ids:
    found = [np.empty(0, dtype=np.int64)]
    for x in layouts:
        named = look_up(x) if x.parameter is not None else x.coordinates
        found += [units.find(c[c >= 0]).ravel() for c in named or ()]
    return sorted_set(np.concatenate(found))


def _difference(one: Ids, other: Ids) -> Ids:
    """Of two sets."""
    return np.setdiff1d(one, other, assume_unique=True)


def _pin(units: Units, ids: Ids, text: str) -> None:
    units.pin(ids, text, PinKind.UNUSED)
