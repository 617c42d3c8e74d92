"""What follows for units that are summed over, from the rows that they lie in.

A *row* is all that is summed into one entry of the result. A permutation that moves units of two
coordinates inside a sum has to keep the pairs in every row. What ``pairs`` and ``partition`` say
about a tensor as a whole does not always hold in each row of it.
"""

from __future__ import annotations

from itertools import combinations
from math import prod

import numpy as np

from .causes import PinKind
from .coordinates import along, overlap, positional, varies_on
from .ids import Ids, first_alike, mix, sorted_set
from .layout import Layout
from .pairs import drop_repeats
from .partition import partition_by_pinned
from .units import Units


def settle_rows(units: Units, layout: Layout, inside: set[int]) -> None:
    """Record what keeps the sums over the dims ``inside``, in each row."""
    coordinates = [c for c in layout.coordinates if inside & set(varies_on(c))]
    pinned = [c for c in coordinates if units.is_pinned(c).all()]
    moving = [c for c in coordinates if not units.is_pinned(c).all()]
    for c in moving:
        skewed = [p for p in pinned if overlap(c, p) and set(varies_on(p)) - inside]
        if skewed:
            rows = {d for p in skewed for d in varies_on(p)} - inside
            partition_by_pinned(
                units, c, [*skewed, *positional(units, layout.shape, tuple(sorted(rows)))]
            )
    for x, y in combinations(moving, 2):
        if overlap(x, y):
            places = [p for p in pinned if overlap(p, x) or overlap(p, y)]
            if not is_closed_in_rows(units, x, y, places, inside):
                reason = "meets other units in some of the sums that it lies in, not in all"
                units.pin(np.concatenate([x.ravel(), y.ravel()]), reason, PinKind.MEETING)


def is_closed_in_rows(units: Units, x: Ids, y: Ids, pinned: list[Ids], inside: set[int]) -> bool:
    """Does every row hold all the pairs that its units form anywhere, equally often?

    Entries at different pinned positions count as different rows. Pairs of two pinned units stay
    where they are, however often they occur.
    """
    pinned = [_by_first_place(p, inside) for p in pinned]
    x, y, *pinned = drop_repeats([x, y, *pinned], inside)
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
    moving = ~(units.is_pinned(keys // units.count) & units.is_pinned(keys % units.count))
    row, keys = row[moving], keys[moving]
    order = np.lexsort((keys, row))
    begins = np.flatnonzero(np.diff(row[order], prepend=row[order[:1]] + np.uint64(1)) != 0)
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
    """Replace every id by the first position in its row that has the same id.

    Rows then are equal if the same positions of them have equal ids, whichever ids these are.
    """
    dims = tuple(d for d in varies_on(coordinate) if d in inside)
    front = np.moveaxis(coordinate, dims, range(-len(dims), 0))
    rows = front.reshape(-1, prod(coordinate.shape[d] for d in dims))
    return np.moveaxis(first_alike(rows).reshape(front.shape), range(-len(dims), 0), dims)
