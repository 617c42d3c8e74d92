"""Which rows of a claim have to be looked at: of those that are alike, one.

Attention with rotary embeddings claims something for every pair of positions, and for all of them
the same: the positions are pinned, keys tell them apart, and the same units lie beside them. Rows
at different positions are then never compared with each other, and how a permutation fares at one
is how it fares at every other where pinned units are equal to one another at the same places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from ..layouts.coordinates import varies_on
from ..layouts.ids import Hashes, Ids, count_distinct, first_alike, mix
from ..layouts.units import Claim, Units


def without_alike(units: Units, claim: Claim, names: Hashes) -> Claim:
    """A claim that fails for the same permutations, on as few positions as possible.

    Args:
        units: says what is pinned.
        claim: what was relied on.
        names: per unit, a hash that is the same for the same units.
    """
    every = [*claim.keys, *claim.values]
    ndim = max((c.ndim for c in every), default=0)
    if any(c.ndim != ndim for c in every):
        return claim
    shape = np.broadcast_shapes(*(c.shape for c in every))
    moving = {d for c in every if not units.is_pinned(c).all() for d in varies_on(c)}
    dims = [d for d, n in enumerate(shape) if n > 1 and d not in moving and d not in claim.summed]
    sizes = [shape[d] for d in dims]
    if not dims or not _told_apart(claim.keys, names, dims, prod(sizes)):
        return claim
    kinds = np.zeros(sizes, dtype=np.uint64)
    for c in every:
        if set(varies_on(c)) & set(dims):
            kinds = mix(kinds) + _pattern(np.moveaxis(names[c], dims, range(len(dims))), len(dims))
    kept = np.sort(np.unique(kinds, return_index=True)[1])
    at = np.unravel_index(kept, sizes)
    keys, values = (tuple(_taken(c, dims, at) for c in cs) for cs in (claim.keys, claim.values))
    return replace(claim, keys=keys, values=values)


def _told_apart(keys: Sequence[Ids], names: Hashes, dims: list[int], size: int) -> bool:
    """Do the keys that vary on nothing else differ at every place along some dims?"""
    total: Hashes = np.zeros((), dtype=np.uint64)
    for c in keys:
        if set(varies_on(c)) <= set(dims):
            total = mix(total) + names[c]
    return total.size == size == count_distinct(total)


def _pattern(named: Hashes, outer: int) -> Hashes:
    """Per index along the first dims, a hash of which of its other entries are equal."""
    rows = named.reshape(prod(named.shape[:outer]), -1)
    equal_to = first_alike(rows)
    hashes = (mix(equal_to) * mix(np.arange(rows.shape[1]), 43)).sum(axis=1, dtype=np.uint64)
    return hashes.reshape(named.shape[:outer])


def _taken(c: Ids, dims: list[int], at: tuple[Ids, ...]) -> Ids:
    """A coordinate at some places along ``dims``, which lie along the first of them afterwards."""
    if not set(varies_on(c)) & set(dims):
        return c
    front = np.moveaxis(c, dims, range(len(dims)))
    places = tuple(p if n > 1 else np.zeros_like(p) for p, n in zip(at, front.shape, strict=False))
    taken = front[places]
    ones = (1,) * (len(dims) - 1)
    return np.moveaxis(taken.reshape(len(taken), *ones, *taken.shape[1:]), range(len(dims)), dims)
