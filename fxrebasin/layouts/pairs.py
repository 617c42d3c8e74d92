"""What follows from which units of two coordinates occur together.

Two coordinates that vary along a common dim were brought together by an op. The distinct pairs of
movable units that occur at one entry decide what follows:

* one to one: the units are equal;
* many to one: the one is the parent of the many;
* every connected component of the pairs a full product: a new, coarser unit per component is the
  parent of both;
* all with all: nothing follows;
* anything else is not understood, and pinned.

>>> units = Units()
>>> heads, features = units.fresh(2), units.fresh(6)
>>> relate_pairs(units, *find_pairs(units, features.reshape(2, 3), heads.reshape(2, 1)))
>>> [(child.tolist(), parent.tolist()) for child, parent, _ in units.parents]
[([3, 4, 5, 6, 7, 8], [1, 1, 1, 2, 2, 2])]
"""

from __future__ import annotations

from math import prod

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .causes import PinKind
from .ids import Ids, mix, sorted_set
from .units import Units

MANY = 2**18
"""Entries from which on it pays to look for indices that repeat others before they are sorted."""


def find_pairs(units: Units, x: Ids, y: Ids) -> tuple[Ids, Ids]:
    """The distinct pairs of ids that occur together in two coordinates."""
    if prod(np.broadcast_shapes(x.shape, y.shape)) > MANY:
        x, y = drop_repeats([x, y], set())
    keys = sorted_set(x * np.int64(units.count) + y)
    return keys // units.count, keys % units.count


def relate_pairs(units: Units, a: Ids, b: Ids) -> None:
    """Conclude what follows from units that occur together, given their distinct pairs."""
    movable = ~(units.is_pinned(a) | units.is_pinned(b))
    a, b = a[movable], b[movable]
    if not a.size:
        return
    na, nb = units.count_distinct(a), units.count_distinct(b)
    if len(a) == na * nb:
        if na == nb == 1:
            units.equate(a, b)
        return
    if len(a) == na == nb:
        units.equate(a, b)
    elif not nest_pairs(units, a, b):
        text = "meets other units in no order that is understood"
        units.pin(np.concatenate([a, b]), text, PinKind.MEETING)


def nest_pairs(units: Units, a: Ids, b: Ids) -> bool:
    """Make the coarser units parents of the finer ones; False if neither are.

    Where every connected component of the pairs is a full product, a new unit per component is
    the parent of both.
    """
    na, nb = units.count_distinct(a), units.count_distinct(b)
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


def drop_repeats(coordinates: list[Ids], inside: set[int]) -> list[Ids]:
    """Leave out indices at which every coordinate is as at another index of the same dim.

    The dims ``inside`` keep all their indices.
    """
    for d in set(range(coordinates[0].ndim)) - inside:
        varying = [c for c in coordinates if c.shape[d] > 1]
        if varying:
            n = varying[0].shape[d]
            flat = np.concatenate([np.moveaxis(c, d, 0).reshape(n, -1) for c in varying], axis=1)
            hashes = (mix(flat) * mix(np.arange(flat.shape[1]), 41)).sum(axis=1, dtype=np.uint64)
            kept = np.sort(np.unique(hashes, return_index=True)[1])
            coordinates = [c.take(kept, axis=d) if c.shape[d] > 1 else c for c in coordinates]
    return coordinates
