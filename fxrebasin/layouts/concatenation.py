"""Concatenation of layouts.

The result needs coordinates that have units for the entries of every operand, so each coordinate
of one operand is put in a *column* with one of every other operand, and columns are concatenated.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from .adoption import resolve
from .causes import PinKind
from .coordinates import along, collapse, varies_on
from .ids import NOWHERE, Ids, mix, sorted_set
from .layout import Layout
from .settling import canonical
from .units import Units


def concatenate(units: Units, operands: Sequence[Layout], dim: int) -> Layout:
    """The layout of ``torch.cat``; an empty tensor of one dimension is left out, as there.

    >>> units = Units()
    >>> a, b = units.fresh(2), units.fresh(3)
    >>> both = concatenate(units, [Layout((2,), (a,)), Layout((3,), (b,))], 0)
    >>> both.coordinates[0].tolist() == [*a.tolist(), *b.tolist()]
    True
    """
    xs = [resolve(units, x) for x in operands if x.shape != (0,)]
    if (entries := _entries_of_one(units, xs, dim)) is not None:
        return entries
    _pin_grown(units, xs)
    columns = _columns(units, xs, dim)
    for column in columns:
        label_by_operand(units, column)
    if _ambiguous(columns):
        places = units.positions(-1, len(xs))
        columns.append([places[k].reshape([1] * x.ndim) for k, x in enumerate(xs)])
    lengths = [x.shape[dim] for x in xs]
    _claim_operands(units, columns, lengths, dim)
    shape = list(xs[0].shape)
    shape[dim] = sum(lengths)
    return Layout(tuple(shape), tuple(_concatenate(column, lengths, dim) for column in columns))


def _pin_grown(units: Units, xs: Sequence[Layout]) -> None:
    """Pin the units that have been added to what another operand has been made of.

    The steps of a recurrent layer are such operands: each depends on all that came before. Where
    units differ from step to step, the first ones cannot change places with later ones.
    """
    whole = [
        {int(u) for c in x.coordinates if c.size == 1 for u in units.find(c.ravel())} for x in xs
    ]
    whole = [{u for u in ids if not units.is_pinned(np.array([u])).all()} for ids in whole]
    grown = {u for one in whole for other in whole if one and one < other for u in other - one}
    if grown:
        text = "is what one part of a concatenation has beyond another"
        units.pin(np.array(sorted(grown)), text, PinKind.MEETING)


def _entries_of_one(units: Units, xs: Sequence[Layout], dim: int) -> Layout | None:
    """The result where all operands hold entries of one tensor, chosen by their movable units.

    What lies at a unit is then the same whichever operand it comes from.
    """
    if len(xs) < 2 or any(x.entries_of != xs[0].entries_of or 0 in x.shape for x in xs):
        return None
    columns = list(zip(*(x.coordinates for x in xs), strict=True))
    differ = [c for c in columns if any(not np.array_equal(c[0], other) for other in c)]
    if len(differ) != 1 or not _disjoint([sorted_set(units.find(c)) for c in differ[0]]):
        return None
    if any(units.is_pinned(c).any() for c in differ[0]):
        return None
    lengths = [x.shape[dim] for x in xs]
    shape = (*xs[0].shape[:dim], sum(lengths), *xs[0].shape[dim + 1 :])
    return Layout(shape, tuple(_concatenate(list(c), lengths, dim) for c in columns))


def label_by_operand(units: Units, column: Sequence[Ids]) -> None:
    """Say that units which come from different operands cannot be exchanged."""
    sets = [sorted_set(c) for c in column]
    operand = np.repeat(np.arange(len(sets)), [len(s) for s in sets])
    ids, inverse = np.unique(np.concatenate(sets), return_inverse=True)
    labels = np.zeros(len(ids), dtype=np.uint64)
    np.add.at(labels, inverse, mix(operand))
    movable = ~units.is_pinned(ids)
    if len(np.unique(labels[movable])) > 1:
        units.label(ids[movable], labels[movable])


def _columns(units: Units, xs: Sequence[Layout], dim: int) -> list[list[Ids]]:
    """Per coordinate of the result, the coordinate of every operand that goes into it."""
    lists = [canonical(units, x.coordinates) for x in xs]
    columns = []
    for c in list(lists[0]):
        if c.shape[dim] > 1:
            continue
        twins = [next((k for k, o in enumerate(x) if np.array_equal(o, c)), None) for x in lists]
        if all(k is not None for k in twins):
            columns.append([x.pop(k) for x, k in zip(lists, twins, strict=True) if k is not None])
    for x in lists:
        x.sort(key=lambda c: (bool(units.is_pinned(c).all()), -c.size))
    nowhere = np.full([1] * xs[0].ndim, NOWHERE, dtype=np.int64)
    for across in _spans(lists, dim):
        alike = [[c for c in x if _across(c, dim) == across] for x in lists]
        for k in range(max(len(x) for x in alike)):
            columns.append([x[k] if k < len(x) else nowhere for x in alike])
    return columns


def _across(coordinate: Ids, dim: int) -> tuple[int, ...]:
    """The dims that a coordinate varies on, but for the one along which operands are joined."""
    return tuple(d for d in varies_on(coordinate) if d != dim)


def _spans(lists: Sequence[Sequence[Ids]], dim: int) -> list[tuple[int, ...]]:
    """Every set of other dims that coordinates vary on: tokens do not go with features. Those with
    movable units come first, as they are sorted."""
    longest = max(map(len, lists))
    ordered = [x[k] for k in range(longest) for x in lists if k < len(x)]
    return list(dict.fromkeys(_across(c, dim) for c in ordered))


def _ambiguous(columns: list[list[Ids]]) -> bool:
    """Could an entry of one operand have the same units as one of another?"""
    if not columns:
        return True
    sets = [[sorted_set(c) for c in column] for column in columns]
    if any(_disjoint(column) for column in sets):
        return False
    return not all(
        any(np.intersect1d(column[a], column[b]).size == 0 for column in sets)
        for a, b in combinations(range(len(columns[0])), 2)
    )


def _disjoint(sets: Sequence[Ids]) -> bool:
    together = np.concatenate(sets)
    return len(sorted_set(together)) == len(together)


def _claim_operands(units: Units, columns: list[list[Ids]], lengths: list[int], dim: int) -> None:
    """Claim that the units of an entry determine which operand it comes from."""
    operands = units.positions(-1, len(lengths))
    for column in columns:
        sets = [sorted_set(c) for c in column]
        if _disjoint(sets):
            units.claim((np.concatenate(sets),), (np.repeat(operands, [len(s) for s in sets]),))
            return
    ndim = columns[0][0].ndim
    keys = tuple(_concatenate(column, lengths, dim) for column in columns)
    units.claim(keys, (along(np.repeat(operands, lengths), dim, ndim),))


def _concatenate(column: list[Ids], lengths: list[int], dim: int) -> Ids:
    sizes = [max(ns) for ns in zip(*(c.shape for c in column), strict=True)]
    parts = []
    for c, length in zip(column, lengths, strict=True):
        target = [length if d == dim else n for d, n in enumerate(sizes)]
        parts.append(np.broadcast_to(c, target))
    return collapse(np.concatenate(parts, axis=dim))
