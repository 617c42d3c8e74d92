"""What follows for movable units from the pinned ones that they occur with.

A movable unit that meets pinned ones can only be exchanged with units that meet the same. One that
no other is like is pinned itself.

>>> units = Units()
>>> moving, (a, b) = units.fresh(4), units.positions(0, 2)
>>> partition_by_pinned(units, moving, [np.array([a, a, a, b])])
>>> units.is_pinned(moving).tolist()
[False, False, False, True]
"""

from __future__ import annotations

import numpy as np

from .causes import PinKind
from .coordinates import overlap, varies_on
from .ids import Hashes, Ids, mix
from .units import Units


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
    pinned = _connected(pinned, set(dims))
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


def _connected(coordinates: list[Ids], dims: set[int]) -> list[Ids]:
    """The coordinates that vary on ``dims``, or share a dim with one that is connected so."""
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
