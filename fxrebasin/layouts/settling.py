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
from math import prod

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .adoption import tell_apart
from .layout import Layout, along, collapse, positional, varies_on
from .units import Hashes, Ids, Units, mix, sorted_set

MANY = 2**18
"""Entries from which on it pays to look for indices that repeat others before they are sorted."""


def settle(units: Units, layout: Layout) -> Layout:
    """Record what the coordinates of ``layout`` imply, and keep only those that are needed."""
    coordinates = canonical(units, layout.coordinates)
    known = None
    while known != (units.version, units.pins):
        known = units.version, units.pins
        for k, coordinate in enumerate(coordinates):
            others = [c for j, c in enumerate(coordinates) if j != k]
            _partition_by_pinned(units, coordinate, others)
        for x, y in combinations(coordinates, 2):
            if _overlap(x, y):
                _relate(units, x, y)
        if units.version != known[0]:
            coordinates = canonical(units, coordinates)
    return Layout(layout.shape, tuple(_without_redundant(units, coordinates)))


def _overlap(x: Ids, y: Ids) -> bool:
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


def _partition_by_pinned(units: Units, coordinate: Ids, others: list[Ids]) -> None:
    """Label the movable units of a coordinate by the pinned units they occur with."""
    dims = varies_on(coordinate)
    if not any(_overlap(coordinate, c) for c in others):
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
        units.pin(ids[alone], "meets a pinned position that no other unit meets")
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


def settle_rows(units: Units, layout: Layout, inside: set[int]) -> None:
    """Record what it takes for sums over the dims ``inside`` to be kept, row by row.

    What two coordinates say about each other over a whole tensor need not hold in each row.
    """
    coordinates = [c for c in layout.coordinates if inside & set(varies_on(c))]
    pinned = [c for c in coordinates if units.is_pinned(c).all()]
    moving = [c for c in coordinates if not units.is_pinned(c).all()]
    for c in moving:
        skewed = [p for p in pinned if _overlap(c, p) and set(varies_on(p)) - inside]
        if skewed:
            rows = {d for p in skewed for d in varies_on(p)} - inside
            _partition_by_pinned(
                units, c, [*skewed, *positional(units, layout.shape, tuple(sorted(rows)))]
            )
    for x, y in combinations(moving, 2):
        if _overlap(x, y):
            beside = [p for p in pinned if _overlap(p, x) or _overlap(p, y)]
            if not _is_closed_in_rows(units, x, y, beside, inside):
                reason = "meets other units in some of the sums that it lies in, not in all"
                units.pin(np.concatenate([x.ravel(), y.ravel()]), reason)


def _is_closed_in_rows(units: Units, x: Ids, y: Ids, pinned: list[Ids], inside: set[int]) -> bool:
    """Does every row hold all the pairs that its units form anywhere, equally often?

    Entries at different pinned positions count as different rows.
    """
    pinned = [_by_first_place(p, inside) for p in pinned]
    x, y, *pinned = without_repeats([x, y, *pinned], inside)
    keys = x * np.int64(units.count) + y
    every = sorted_set(keys)
    a, b = every // units.count, every % units.count
    row = np.zeros((1,) * keys.ndim, dtype=np.uint64)
    for p in pinned:
        row = mix(row) + mix(p)
    shape = np.broadcast_shapes(keys.shape, row.shape)
    for d in set(range(keys.ndim)) - inside:
        row = mix(row) + mix(along(np.arange(shape[d]), d, keys.ndim), d)
    shape = np.broadcast_shapes(keys.shape, row.shape)
    row, keys = np.broadcast_to(row, shape).ravel(), np.broadcast_to(keys, shape).ravel()
    order = np.lexsort((keys, row))
    begins = np.flatnonzero(np.diff(row[order], prepend=row[order[0]] + np.uint64(1)) != 0)
    seen = set()
    for group in np.split(keys[order], begins[1:]):
        if group.tobytes() in seen:
            continue
        seen.add(group.tobytes())
        met, counts = np.unique(group, return_counts=True)
        expected = np.isin(a, met // units.count) & np.isin(b, met % units.count)
        if np.count_nonzero(expected) != len(met) or len(set(counts.tolist())) > 1:
            return False
    return True


def _by_first_place(coordinate: Ids, inside: set[int]) -> Ids:
    """In place of its ids the first places, within each row, that have the same one: rows in which
    the same places are alike become equal."""
    dims = tuple(d for d in varies_on(coordinate) if d in inside)
    front = np.moveaxis(coordinate, dims, range(-len(dims), 0))
    rows = front.reshape(-1, prod(coordinate.shape[d] for d in dims))
    order = np.argsort(rows, axis=1, kind="stable")
    ordered = np.take_along_axis(rows, order, axis=1)
    begins = np.zeros(rows.shape, dtype=np.int64)
    begins[:, 1:] = np.where(ordered[:, 1:] != ordered[:, :-1], np.arange(1, rows.shape[1]), 0)
    first = np.take_along_axis(order, np.maximum.accumulate(begins, axis=1), axis=1)
    places = np.empty_like(rows)
    np.put_along_axis(places, order, first, axis=1)
    return np.moveaxis(places.reshape(front.shape), range(-len(dims), 0), dims)


def without_repeats(coordinates: list[Ids], inside: set[int]) -> list[Ids]:
    """Without indices, along all other dims, at which every coordinate repeats itself."""
    for d in set(range(coordinates[0].ndim)) - inside:
        varying = [c for c in coordinates if c.shape[d] > 1]
        if varying:
            n = varying[0].shape[d]
            flat = np.concatenate([np.moveaxis(c, d, 0).reshape(n, -1) for c in varying], axis=1)
            hashes = (mix(flat) * mix(np.arange(flat.shape[1]), 41)).sum(axis=1, dtype=np.uint64)
            kept = np.sort(np.unique(hashes, return_index=True)[1])
            coordinates = [c.take(kept, axis=d) if c.shape[d] > 1 else c for c in coordinates]
    return coordinates


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


def pairs(units: Units, x: Ids, y: Ids) -> tuple[Ids, Ids]:
    """The distinct pairs of ids that occur together in two coordinates."""
    if prod(np.broadcast_shapes(x.shape, y.shape)) > MANY:
        x, y = without_repeats([x, y], set())
    keys = sorted_set(x * np.int64(units.count) + y)
    return keys // units.count, keys % units.count


def _relate(units: Units, x: Ids, y: Ids) -> None:
    if units.is_pinned(x).all() or units.is_pinned(y).all():
        return
    relate_pairs(units, *pairs(units, units.find(x), units.find(y)))


def relate_pairs(units: Units, a: Ids, b: Ids) -> None:
    """Conclude what follows from units that occur together, given their distinct pairs."""
    movable = ~(units.is_pinned(a) | units.is_pinned(b))
    a, b = a[movable], b[movable]
    if not a.size:
        return
    na, nb = units.distinct(a), units.distinct(b)
    if len(a) == na * nb:
        if na == nb == 1:
            units.equate(a, b)
        return
    if len(a) == na == nb:
        units.equate(a, b)
    elif not nest_pairs(units, a, b):
        units.pin(np.concatenate([a, b]), "meets other units in no order that is understood")


def nest_pairs(units: Units, a: Ids, b: Ids) -> bool:
    """Make the coarser units parents of the finer ones; False if neither are.

    Where every connected component of the pairs is a full product, a new unit per component is
    the parent of both.
    """
    na, nb = units.distinct(a), units.distinct(b)
    if len(a) in (na, nb):
        if na != nb:
            units.contain(a, b) if len(a) == na else units.contain(b, a)
        return True
    ua, ia = np.unique(a, return_inverse=True)
    ub, ib = np.unique(b, return_inverse=True)
    n = len(ua) + len(ub)
    links = coo_array((np.ones(len(a), dtype=np.int8), (ia, ib + len(ua))), shape=(n, n))
    count, component = connected_components(links, directed=False)
    of_a, of_b = component[: len(ua)], component[len(ua) :]
    sizes_a, sizes_b = np.bincount(of_a, minlength=count), np.bincount(of_b, minlength=count)
    met = np.bincount(of_a[ia], minlength=count)
    if not np.array_equal(met, sizes_a * sizes_b):
        return False
    if count > 1 and units.is_new(a, b):
        parents = units.fresh(count)
        units.contain(ua, parents[of_a])
        units.contain(ub, parents[of_b])
    return True


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
        if not _overlap(r, c):
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
