"""Which units a parameter has is decided when an op first uses it.

A parameter starts out *unnamed*: it has no units, and its layout only says which position of the
parameter each entry is. When an op brings it together with a tensor whose units are known, it
*adopts* those units along the dims that they share, and gets fresh units along the others. That is
how the weight of a grouped convolution takes its input units group by group, and how every expert
of a batched weight gets hidden units of its own. Where there is nothing to adopt, every axis gets
units of its own; if they later turn out to differ by group, see ``grouped_axes``.
"""

from __future__ import annotations

from math import prod

import numpy as np

from .coordinates import Shape, all_distinct, along, collapse, varies_on
from .ids import NOWHERE, Ids, sorted_set
from .layout import UNNAMED, Layout, Parameter
from .units import Units


def resolve(
    units: Units, layout: Layout, against: Layout | None = None, reduced: tuple[int, ...] = ()
) -> Layout:
    """A layout with units: those of an unnamed parameter are adopted from ``against`` if possible.

    ``against`` has as many dims as ``layout``; ``reduced`` are the dims that the op is going to sum
    over: if there are any, units are adopted along these, and are fresh along the others.
    """
    parameter = layout.parameter
    if parameter is None:
        return layout
    index = parameter.index(layout)
    found = _look_up(parameter, index, layout.ndim)
    if found is None and (
        against is None or not _adopt(units, parameter, index, layout, against, reduced)
    ):
        _name_axes(parameter)
    if found is None:
        found = _look_up(parameter, index, layout.ndim)
    if found is None:
        _name_axes(parameter)
        found = _look_up(parameter, index, layout.ndim)
    assert found is not None
    return Layout(layout.shape, tuple(found))


def look_up(layout: Layout) -> list[Ids] | None:
    """The units that a part of a parameter has by now; None where it has none yet."""
    assert layout.parameter is not None
    return _look_up(layout.parameter, layout.parameter.index(layout), layout.ndim)


def _look_up(parameter: Parameter, index: dict[int, Ids], ndim: int) -> list[Ids] | None:
    """The units at some entries of a parameter, or None where any entry is still unnamed."""
    found, settled = [], np.zeros((1,) * ndim, dtype=bool)
    for coordinate in parameter.coordinates:
        where = tuple(index[a] if n > 1 else 0 for a, n in enumerate(coordinate.shape))
        picked = np.asarray(coordinate[where])
        picked = picked.reshape(picked.shape or (1,) * ndim)
        named = picked != UNNAMED
        if named.any():
            settled = settled | named
            found.append(collapse(np.where(named, picked, NOWHERE)))
    return found if settled.all() else None


def _name_axes(parameter: Parameter) -> None:
    """Give every axis units of its own, wherever entries are still unnamed."""
    named = np.zeros((1,) * len(parameter.shape), dtype=bool)
    for coordinate in parameter.coordinates:
        named = named | (coordinate != UNNAMED)
    ndim = len(parameter.shape)
    for axis, ids in enumerate(parameter.positions):
        if len(ids) > 1:
            own = parameter.in_groups.get(axis, along(ids, axis, ndim))
            parameter.coordinates.append(np.where(named, UNNAMED, own))


def _adopt(
    units: Units,
    parameter: Parameter,
    index: dict[int, Ids],
    layout: Layout,
    against: Layout,
    reduced: tuple[int, ...],
) -> bool:
    """Name the entries at ``index`` after the units of ``against``; False if that cannot be."""
    index, layout, against = _without_copies(index, layout, against)
    spans = {a: set(varies_on(ix)) for a, ix in index.items()}
    dims = set().union(*spans.values()) if spans else set()
    summed = dims & set(reduced)
    candidates = [
        units.find(c) for c in against.coordinates if varies_on(c) and set(varies_on(c)) <= dims
    ]
    if summed:
        candidates = [c for c in candidates if summed & set(varies_on(c))]
    distinguished = summed or dims
    if not candidates or not _is_injective(index, spans, layout.shape):
        return False
    if not all_distinct(candidates, tuple(sorted(distinguished))):
        return False
    kept = sorted(dims - distinguished)
    if kept:
        shape = [n if d in kept else 1 for d, n in enumerate(layout.shape)]
        candidates.append(units.fresh(prod(shape)).reshape(shape))
    restricted = {a for a, ix in index.items() if len(sorted_set(ix)) < parameter.shape[a]}
    for coordinate in candidates:
        touched = set(varies_on(coordinate))
        axes = {a for a, span in spans.items() if span & touched} | restricted
        target = np.full(
            [n if a in axes else 1 for a, n in enumerate(parameter.shape)], UNNAMED, dtype=np.int64
        )
        target[tuple(index[a] if a in axes else 0 for a in range(target.ndim))] = coordinate
        parameter.coordinates.append(target)
    return True


def _without_copies(
    index: dict[int, Ids], layout: Layout, against: Layout
) -> tuple[dict[int, Ids], Layout, Layout]:
    """The same without what is repeated along a dim, as weights are for every example of a batch.

    Of what they meet there, only what is repeated likewise can be theirs.
    """
    met = list(against.coordinates)
    for d, n in enumerate(layout.shape):
        places = [ix for ix in index.values() if ix.shape[d] > 1]
        if not places or any(varies_on(ix) != (d,) for ix in places):
            continue
        rows = np.stack([ix.ravel() for ix in places])
        _, first, copy_of = np.unique(rows, axis=1, return_index=True, return_inverse=True)
        copy_of = copy_of.ravel()
        if len(first) == n:
            continue
        index = {a: ix if ix.shape[d] == 1 else ix.take(first, d) for a, ix in index.items()}
        kept = [c if c.shape[d] == 1 else c.take(first, d) for c in met]
        met = [
            new
            for new, old in zip(kept, met, strict=True)
            if old.shape[d] == 1 or np.array_equal(new.take(copy_of, d), old)
        ]
        layout = Layout((*layout.shape[:d], len(first), *layout.shape[d + 1 :]))
    return index, layout, Layout(layout.shape, tuple(met))


def _is_injective(index: dict[int, Ids], spans: dict[int, set[int]], shape: Shape) -> bool:
    """Do all entries come from different positions of the parameter?"""
    remaining = dict(spans)
    while remaining:
        axis, dims = remaining.popitem()
        group = [axis]
        while joined := [a for a, span in remaining.items() if span & dims]:
            for a in joined:
                dims = dims | remaining.pop(a)
            group += joined
        if not all_distinct([index[a] for a in group], tuple(sorted(dims))):
            return False
    return True
