"""Put the blocks to the test against everything that was concluded on the way to them.

Whenever something is forgotten while a model is propagated, it is *claimed* that nothing is lost:

* where a coordinate is dropped, that those that stay determine it;
* where a sum is taken, that what is left determines the units that were summed over;
* where tensors are joined, that the units of an entry determine which tensor it comes from.

A permutation of units leaves the function as it is if it maps all these tables onto themselves.
The blocks are found by faster means, so samples of their permutations are tried on the tables and
on the parameters. Those that pass form a subgroup, and an element drawn at random lies in a proper
subgroup with a probability of one half at most.
"""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from numpy.typing import NDArray

from .blocks import Classes, Indices, RawBlock, UnitClass
from .parameters import Parameter
from .permutation import Permutation, source_of
from .symmetry import ParameterSymmetry, Symmetry
from .units import Claim, Hashes, Ids, Units, mix

SAMPLES = 8
SAMPLES_OF_PARAMETERS = 2
"""Fewer, since segments are made from the very blocks that are sampled."""

Failure = tuple[str, Ids]
"""The node at which it shows that a permutation is wrong, and the units that it should not move."""


def refute(
    units: Units, classes: Classes, parameters: list[Parameter], symmetry: Symmetry
) -> list[Failure]:
    """What is wrong with the first of some permutations of the blocks with which anything is."""
    if not symmetry.blocks:
        return []
    everything = (*symmetry.parameters, *symmetry.outputs)
    before = _names(units)
    tables = [_Table(claim, before) for claim in units.claims]
    generator = torch.Generator().manual_seed(0)
    for k in range(SAMPLES):
        permutation = symmetry.sample(generator)
        sources = source_units(units, classes, permutation)
        after = _names(units, sources)
        found = [failure for table in tables for failure in table.failures(after)]
        if k < SAMPLES_OF_PARAMETERS:
            for parameter, described in zip(parameters, everything, strict=True):
                found += _misplaced(parameter, described, permutation, before, after)
        if found:
            moved = np.flatnonzero(sources != np.arange(units.count))
            return [(site, np.intersect1d(units.find(ids), moved)) for site, ids in found]
    return []


def source_units(units: Units, classes: Classes, permutation: Permutation) -> Ids:
    """Per unit that stands for a class, the one that takes its place."""
    sources = np.arange(units.count, dtype=np.int64)
    flat: dict[RawBlock, Indices] = {}
    for found in classes.classes:
        for block, _ in found.atoms:
            if block not in flat:
                named = block.name in permutation.indices
                stay = np.arange(block.size * block.count)
                flat[block] = permutation.flat(block.name) if named else stay
        if found.atoms:
            place = _places(found, [index for _, index in found.atoms])
            source = _places(found, [flat[block][index] for block, index in found.atoms])
            order = np.argsort(place)
            where = order[np.searchsorted(place[order], source)]
            assert np.array_equal(place[where], source), "a class is not closed"
            sources[found.units] = found.units[where]
    return sources


def _places(found: UnitClass, indices: list[Indices]) -> Indices:
    """One number for the indices of each unit in all the blocks that it moves with."""
    total = np.zeros(len(found.units), dtype=np.int64)
    for (block, _), index in zip(found.atoms, indices, strict=True):
        total = total * (block.size * block.count) + index
    return total


def _names(units: Units, sources: Ids | None = None) -> Hashes:
    """Per unit, a hash of its class, or of the class that takes its place, and its side in it."""
    every = np.arange(units.count, dtype=np.int64)
    roots = units.find(every)
    return mix(mix(roots if sources is None else sources[roots], 31) + units.member(every), 32)


class _Table:
    """The rows of a claim, to be held against their images under permutations."""

    def __init__(self, claim: Claim, names: Hashes) -> None:
        self.claim = claim
        key, value = self._rows(names)
        self.known, first = np.unique(key, return_index=True)
        self.value = value.ravel()[first]

    def _rows(self, names: Hashes) -> tuple[Hashes, Hashes]:
        claim = self.claim
        key, value = _joint(claim.keys, names), _joint(claim.values, names)
        if claim.summed:
            value = mix(value, 33).sum(axis=claim.summed, keepdims=True, dtype=np.uint64)
        shape = np.broadcast_shapes(key.shape, value.shape)
        return np.broadcast_to(key, shape), np.broadcast_to(value, shape)

    def failures(self, names: Hashes) -> list[Failure]:
        """Rows whose image is a row of the table, but with other values: where, and the units."""
        key, value = self._rows(names)
        at = np.searchsorted(self.known, key).clip(max=len(self.known) - 1)
        wrong = (self.known[at] == key) & (self.value[at] != value)
        if not wrong.any():
            return []
        ids = [_ids_in(c, wrong) for c in (*self.claim.keys, *self.claim.values)]
        return [(self.claim.site, np.concatenate(ids))]


def _joint(coordinates: tuple[Ids, ...], names: Hashes) -> Hashes:
    total: Hashes = np.zeros((1,) * max((c.ndim for c in coordinates), default=0), dtype=np.uint64)
    for c in coordinates:
        total = mix(total) + names[c]
    return total


def _ids_in(coordinate: Ids, rows: NDArray[np.bool_]) -> Ids:
    """The units of a coordinate in some rows of a table."""
    rows = rows.reshape((1,) * (coordinate.ndim - rows.ndim) + rows.shape)
    beyond = tuple(d for d, n in enumerate(coordinate.shape) if n == 1 and rows.shape[d] > 1)
    mask = rows.any(axis=beyond, keepdims=True)
    return coordinate[np.broadcast_to(mask, coordinate.shape)]


def _misplaced(
    parameter: Parameter,
    described: ParameterSymmetry,
    permutation: Permutation,
    before: Hashes,
    after: Hashes,
) -> list[Failure]:
    """Units of entries that come to places of other units than they should."""
    found = []
    taken = [(g.axes, source_of(permutation, described, g)) for g in described.groups]
    for coordinate in parameter.named():
        moved = coordinate
        for axes, source in taken:
            if any(coordinate.shape[a] > 1 for a in axes):
                moved = _gathered(moved, parameter.shape, axes, source)
        wrong = before[moved] != after[np.broadcast_to(coordinate, moved.shape)]
        if wrong.any():
            found.append(("", np.broadcast_to(coordinate, moved.shape)[wrong]))
    return found


def _gathered(
    coordinate: Ids, shape: tuple[int, ...], axes: tuple[int, ...], source: Indices
) -> Ids:
    """A coordinate of a parameter after its entries were moved along ``axes``."""
    sizes = [
        n if a in axes else m for a, (n, m) in enumerate(zip(shape, coordinate.shape, strict=True))
    ]
    front = np.moveaxis(np.broadcast_to(coordinate, sizes), axes, range(len(axes)))
    flat = front.reshape(prod(front.shape[: len(axes)]), *front.shape[len(axes) :])[source]
    return np.moveaxis(flat.reshape(front.shape), range(len(axes)), axes)
