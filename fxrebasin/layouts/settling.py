"""What the coordinates of a layout say about each other's units.

:func:`settle` draws these conclusions for one layout, from each two coordinates that vary along a
common dim (``pairs``) and from each one with all pinned ones (``partition``). Then it drops the
coordinates that follow from the others, which keeps layouts small.

A feature map of 3 channels by 2 positions meets a bias of one unit per channel:

>>> from fxrebasin.layouts.coordinates import along
>>> units = Units()
>>> channels, bias = units.fresh(3), units.fresh(3)
>>> met = Layout((3, 2), (along(channels, 0, 2), along(bias, 0, 2)))
>>> len(settle(units, met).coordinates), units.find(bias).tolist() == channels.tolist()
(1, True)
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from .coordinates import all_distinct, collapse, overlap, varies_on
from .ids import Ids, sorted_set
from .layout import Layout
from .pairs import find_pairs, relate_pairs
from .partition import partition_by_pinned
from .units import Units


def settle(units: Units, layout: Layout) -> Layout:
    """Record what the coordinates of ``layout`` imply, and keep only those that are needed."""
    coordinates = canonical(units, layout.coordinates)
    known = None
    while known != (units.version, units.pins):
        known = units.version, units.pins
        for k, coordinate in enumerate(coordinates):
            others = [c for j, c in enumerate(coordinates) if j != k]
            partition_by_pinned(units, coordinate, others)
        for x, y in combinations(coordinates, 2):
            if overlap(x, y):
                _relate(units, x, y)
        if units.version != known[0]:
            coordinates = canonical(units, coordinates)
    return Layout(layout.shape, tuple(_drop_redundant(units, coordinates)))


def canonical(units: Units, coordinates: tuple[Ids, ...] | list[Ids]) -> list[Ids]:
    """Coordinates by the units that stand for their classes, without repetitions.

    Where two members of one class lie in one coordinate, a pinned coordinate is added that keeps
    them apart.
    """
    result: list[Ids] = []
    for coordinate in coordinates:
        roots = units.find(coordinate)
        found = [collapse(roots)]
        changed = not np.array_equal(roots, coordinate)
        if changed:
            found += _copies(units, coordinate)
        for c in found:
            uniform = c.size == 1
            if uniform and units.is_pinned(c).all():
                continue
            if not any(np.array_equal(c, r) for r in result):
                result.append(c)
    return result


def _copies(units: Units, coordinate: Ids) -> list[Ids]:
    """A pinned coordinate that keeps the members of one class in one coordinate distinct."""
    ids = sorted_set(coordinate)
    members = units.member(ids)
    joined = (members != 0) | ~units.is_pinned(ids)
    ids, members = ids[joined], members[joined]
    roots = units.find(ids)
    if not ids.size or (members == members[0]).all():
        return []
    if units.count_distinct(roots) < len(ids):
        copies = units.copies(ids)
        units.claim((roots, copies), (ids,))
        return [collapse(units.copies(coordinate))]
    units.label(roots, members)
    units.claim((roots,), (ids,))
    return []


def _relate(units: Units, x: Ids, y: Ids) -> None:
    if units.is_pinned(x).all() or units.is_pinned(y).all():
        return
    relate_pairs(units, *find_pairs(units, units.find(x), units.find(y)))


def _drop_redundant(units: Units, coordinates: list[Ids]) -> list[Ids]:
    kept = list(coordinates)
    for c in sorted(coordinates, key=lambda c: -len(varies_on(c))):
        rest = [r for r in kept if r is not c]
        if _follows(units, c, rest):
            kept = rest
    return kept


def _follows(units: Units, c: Ids, rest: list[Ids]) -> bool:
    """Is the coordinate a function of the others, of at most one for each of its dims?"""
    dims = set(varies_on(c))
    if not dims:
        return any(np.array_equal(c, r) for r in rest)
    flat = [r for r in rest if len(varies_on(r)) == 1 and dims.issuperset(varies_on(r))]
    pinned = [r for r in flat if units.is_pinned(r).all()]
    placed = {d for d in dims if _has_all_positions(d, pinned)}
    if units.is_pinned(c).all():
        named = {varies_on(r)[0]: r for r in flat if _is_injective(r)}
        if not dims <= placed | set(named):
            return False
        units.claim((*pinned, *(named[d] for d in sorted(dims - placed))), (c,))
        return True
    for r in rest:
        if not overlap(r, c):
            continue
        inside = set(varies_on(r))
        if inside < dims:
            if _is_injective(r) and dims - inside <= placed:
                units.claim((r, *pinned), (c,))
                return True
        elif not units.is_pinned(r).all() and _determines(units, r, c):
            from_r, to_c = find_pairs(units, r, c)
            units.claim((from_r,), (to_c,))
            return True
    return False


def _has_all_positions(dim: int, pinned: list[Ids]) -> bool:
    """Do the pinned coordinates along one dim, together, differ at each of its positions?"""
    along_dim = [c for c in pinned if varies_on(c) == (dim,)]
    return bool(along_dim) and all_distinct(along_dim, (dim,))


def _determines(units: Units, x: Ids, y: Ids) -> bool:
    """Does the id in ``x`` determine the id in ``y``?"""
    a, _ = find_pairs(units, x, y)
    return len(a) == units.count_distinct(a)


def _is_injective(coordinate: Ids) -> bool:
    return len(sorted_set(coordinate)) == coordinate.size
