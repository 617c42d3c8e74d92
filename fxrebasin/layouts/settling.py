"""What two coordinates of one tensor say about each other's units.

Two coordinates that vary on a common dimension were brought together by an op. Which ids occur
together decides what follows:

* one to one: the units are equal;
* many to one: the one is the parent of the many;
* every connected component a full product: a new, coarser unit per component is parent of both;
* anything else is not understood, and pinned.

Movable units that meet pinned ones are partitioned by the pinned units they meet.

:func:`settle` draws these conclusions for one layout and then drops the coordinates that follow
from the others, which is what keeps layouts small.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from .causes import PinKind
from .coordinates import collapse, tell_apart, varies_on
from .ids import Hashes, Ids, mix, sorted_set
from .layout import Layout
from .pairs import pairs, relate_pairs
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
    return Layout(layout.shape, tuple(_without_redundant(units, coordinates)))


def overlap(x: Ids, y: Ids) -> bool:
    return any(n > 1 and m > 1 for n, m in zip(x.shape, y.shape, strict=True))


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
    """What else it takes to tell apart the members of one class that lie in one coordinate."""
    ids = sorted_set(coordinate)
    members = units.member(ids)
    joined = (members != 0) | ~units.is_pinned(ids)
    ids, members = ids[joined], members[joined]
    roots = units.find(ids)
    if not ids.size or (members == members[0]).all():
        return []
    if units.distinct(roots) < len(ids):
        copies = units.copies(ids)
        units.claim((roots, copies), (ids,))
        return [collapse(units.copies(coordinate))]
    units.label(roots, members)
    units.claim((roots,), (ids,))
    return []


def partition_by_pinned(units: Units, coordinate: Ids, others: list[Ids]) -> None:
    """Label the movable units of a coordinate by the pinned units they occur with."""
    dims = varies_on(coordinate)
    if not any(overlap(coordinate, c) for c in others):
        return
    movable = ~units.is_pinned(coordinate)
    if not movable.any():
        return
    masks = [units.is_pinned(c) for c in others]
    pinned = [np.where(m, c, -1) for c, m in zip(others, masks, strict=True) if m.any()]
    pinned = _joined(pinned, set(dims))
    if not pinned:
        return
    met = np.broadcast_to(_pinned_hash(pinned, dims), coordinate.shape)[movable]
    ids, inverse = np.unique(coordinate[movable], return_inverse=True)
    labels = np.zeros(len(ids), dtype=np.uint64)
    np.add.at(labels, inverse.ravel(), mix(met, 2))
    _, first, same = np.unique(labels, return_inverse=True, return_counts=True)
    if len(same) == 1:
        return
    alone = same[first.ravel()] == 1
    if alone.any():
        text = "meets a pinned position that no other unit meets"
        units.pin(ids[alone], text, PinKind.MEETING)
    units.label(ids, labels)


def _joined(coordinates: list[Ids], dims: set[int]) -> list[Ids]:
    """The coordinates that vary on ``dims``, and all that share other dims with one of those."""
    chosen = [bool(set(varies_on(c)) & dims) for c in coordinates]
    while True:
        beyond = {d for c, k in zip(coordinates, chosen, strict=True) if k for d in varies_on(c)}
        grown = [bool(set(varies_on(c)) & (dims | beyond)) for c in coordinates]
        if grown == chosen:
            return [c for c, k in zip(coordinates, chosen, strict=True) if k]
        chosen = grown


def _pinned_hash(pinned: list[Ids], dims: tuple[int, ...]) -> Hashes:
    """One hash per index along ``dims`` of all the pinned units that are met there, jointly."""
    total: Hashes = np.zeros((1,) * pinned[0].ndim, dtype=np.uint64)
    remaining = list(enumerate(pinned))
    while remaining:
        k, c = remaining.pop(0)
        joint = mix(c, k + 1)
        outside = set(varies_on(c)) - set(dims)
        while sharing := [p for p in remaining if outside & set(varies_on(p[1]))]:
            for p in sharing:
                remaining.remove(p)
                joint = mix(joint) + mix(p[1], p[0] + 1)
                outside |= set(varies_on(p[1])) - set(dims)
        if outside:
            joint = mix(joint).sum(axis=tuple(outside), keepdims=True, dtype=np.uint64)
        total = mix(total) + joint
    return total


def _relate(units: Units, x: Ids, y: Ids) -> None:
    if units.is_pinned(x).all() or units.is_pinned(y).all():
        return
    relate_pairs(units, *pairs(units, units.find(x), units.find(y)))


def _determines(units: Units, x: Ids, y: Ids) -> bool:
    """Does the id in ``x`` determine the id in ``y``?"""
    a, _ = pairs(units, x, y)
    return len(a) == units.distinct(a)


def _without_redundant(units: Units, coordinates: list[Ids]) -> list[Ids]:
    kept = list(coordinates)
    for c in sorted(coordinates, key=lambda c: -len(varies_on(c))):
        rest = [r for r in kept if r is not c]
        if _follows(units, c, rest):
            kept = rest
    return kept


def _follows(units: Units, c: Ids, rest: list[Ids]) -> bool:
    """Is the coordinate a function of the others, one for each of its dims?"""
    dims = set(varies_on(c))
    if not dims:
        return any(np.array_equal(c, r) for r in rest)
    flat = [r for r in rest if len(varies_on(r)) == 1 and dims.issuperset(varies_on(r))]
    still = [r for r in flat if units.is_pinned(r).all()]
    places = {d for d in dims if _tell_places_apart([r for r in still if varies_on(r) == (d,)])}
    if units.is_pinned(c).all():
        counted = {varies_on(r)[0]: r for r in flat if _is_injective(r)}
        if not dims <= places | set(counted):
            return False
        units.claim((*still, *(counted[d] for d in sorted(dims - places))), (c,))
        return True
    for r in rest:
        if not overlap(r, c):
            continue
        inside = set(varies_on(r))
        if inside < dims:
            if _is_injective(r) and dims - inside <= places:
                units.claim((r, *still), (c,))
                return True
        elif not units.is_pinned(r).all() and _determines(units, r, c):
            from_r, to_c = pairs(units, r, c)
            units.claim((from_r,), (to_c,))
            return True
    return False


def _tell_places_apart(pinned: list[Ids]) -> bool:
    """Do pinned coordinates along one dim, together, name each of its places differently?"""
    return bool(pinned) and tell_apart(pinned, varies_on(pinned[0]))


def _is_injective(coordinate: Ids) -> bool:
    return len(sorted_set(coordinate)) == coordinate.size
