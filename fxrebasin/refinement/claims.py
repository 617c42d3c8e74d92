"""Put the blocks to the test against everything that was concluded on the way to them.

Whenever something is forgotten while a model is propagated, it is *claimed* that nothing is lost:

* where a coordinate is dropped, that those that stay determine it;
* where a sum is taken, that what is left determines the units that were summed over;
* where tensors are joined, that the units of an entry determine which tensor it comes from.

A permutation of units leaves the function as it is if it maps all these tables onto themselves.
The blocks are found by faster means, so samples of their permutations are tried on the tables and
on the parameters. Those that leave the function as it is form a subgroup; if that is not all of
the group, a permutation drawn at random lies outside of it with a probability of one half at least.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray

from ..layouts.causes import PinKind
from ..layouts.ids import SPARSE, Hashes, Ids, mix, sorted_set
from ..layouts.layout import Parameter
from ..layouts.units import Claim, Units
from ..symmetry.action import source_of
from ..symmetry.group import Symmetry
from ..symmetry.parts import ParameterSymmetry
from ..symmetry.permutation import Permutation
from .alike import without_alike
from .blocks import Classes, Indices, RawBlock, UnitClass, places

SAMPLES = 8
SAMPLES_OF_PARAMETERS = 2
"""Fewer, since segments are made from the very blocks that are sampled."""

Described = list[tuple[Parameter, ParameterSymmetry]]
"""Parameters, and what the group says of them."""

Failure = tuple[str, Ids]
"""The node at which it shows that a permutation is wrong, and units that it moves wrongly."""


def refute(
    units: Units,
    classes: Classes,
    parameters: list[Parameter],
    symmetry: Symmetry,
    names: Mapping[RawBlock, str],
) -> bool:
    """Try permutations of the blocks. If one is wrong, forbid the like of it and say so."""
    described = zip(parameters, (*symmetry.parameters, *symmetry.outputs), strict=True)
    trials = _Trials(units, classes, list(described), names)
    generator = torch.Generator().manual_seed(0)
    for k in range(SAMPLES if symmetry.blocks else 0):
        permutation = Permutation.random(symmetry, generator)
        found = trials.failures(permutation, k < SAMPLES_OF_PARAMETERS)
        if found:
            _forbid(units, classes, trials, permutation, found)
            return True
    return False


def _forbid(
    units: Units,
    classes: Classes,
    trials: _Trials,
    permutation: Permutation,
    found: list[Failure],
) -> None:
    """Find the blocks of which a permutation is wrong by itself.

    The units of a nested one get a label each, so that they can no longer be exchanged within one
    parent, while the parents still can; the units of others are pinned where it shows.
    """
    wrong = np.concatenate([ids for _, ids in found])
    involved = [c for c in classes.classes if np.isin(c.units, wrong).any()]
    suspects = {b: None for c in involved for block, _ in c.atoms for b in block.ancestors()}
    alone = Permutation.identity(permutation.symmetry).indices
    facts = units.pins + len(units.labels)
    for block in suspects:
        name = trials.blocks.get(block)
        if name is None:
            continue
        only = {**alone, name: permutation.indices[name]}
        failures = trials.failures(Permutation(permutation.symmetry, only), True)
        if failures and block.parent:
            for c in classes.classes:
                if len(c.atoms) == 1 and c.atoms[0][0] is block:
                    units.label(c.units, mix(c.atoms[0][1] % block.size))
        else:
            _pin(units, failures)
    if units.pins + len(units.labels) == facts:
        _pin(units, found)


def _pin(units: Units, failures: list[Failure]) -> None:
    for units.site, ids in failures:
        units.pin(ids, "would have to move otherwise than its neighbours allow", PinKind.CLAIM)


class _Trials:
    """Everything that a permutation is held against."""

    def __init__(
        self, units: Units, classes: Classes, parameters: Described, blocks: Mapping[RawBlock, str]
    ) -> None:
        self.units = units
        self.classes = classes
        self.parameters = parameters
        self.blocks = blocks
        self.roots = units.find(np.arange(units.count, dtype=np.int64))
        self.member = units.member(np.arange(units.count, dtype=np.int64))
        self.names = _names(self.roots, self.member)
        claims = (without_alike(units, claim, self.names) for claim in units.claims)
        self.tables = [_Table(claim, self.names) for claim in claims]
        self.movable = [_Movable(c) for c in classes.classes if c.atoms]

    def failures(self, permutation: Permutation, with_parameters: bool) -> list[Failure]:
        sources = self._sources(permutation)
        names = self._names_after(sources)
        found = [failure for table in self.tables for failure in table.failures(names)]
        if with_parameters:
            for parameter, described in self.parameters:
                found += _misplaced(parameter, described, permutation, self.names, names)
        if not found:
            return []
        moved = sources != np.arange(self.units.count)
        shown = [(site, self._at_fault(ids, moved)) for site, ids in found]
        return [(site, ids) for site, ids in shown if ids.size]

    def _sources(self, permutation: Permutation) -> Ids:
        """Per unit that stands for a class, the one that takes its place."""
        sources = np.arange(self.units.count, dtype=np.int64)
        flat: dict[RawBlock, Indices] = {}
        for block in dict.fromkeys(block for m in self.movable for block, _ in m.atoms):
            name = self.blocks.get(block)
            stay = np.arange(block.size * block.count)
            flat[block] = stay if name is None else permutation.flat(name)
        for movable in self.movable:
            sources[movable.units] = movable.sources(flat)
        return sources

    def _names_after(self, sources: Ids) -> Hashes:
        """Of those that take the places of units; most units of a large model never move."""
        after = sources[self.roots]
        moved = np.flatnonzero(after != self.roots)
        names = self.names.copy()
        names[moved] = _names(after[moved], self.member[moved])
        return names

    def _at_fault(self, ids: Ids, moved: NDArray[np.bool_]) -> Ids:
        """The units that moved. Where none did, all that could: a table then contradicts itself,
        since units that were different when it was made have become one."""
        roots = sorted_set(self.units.find(ids))
        at_fault = roots[moved[roots]]
        return at_fault if at_fault.size else roots[~self.units.is_pinned(roots)]


class _Movable:
    """The units of a class, and at which of its places each of them is."""

    def __init__(self, found: UnitClass) -> None:
        self.units = found.units
        self.atoms = found.atoms
        self.at = places(found.atoms)
        least, width = int(self.at.min()), int(np.ptp(self.at)) + 1
        self.order: Indices | None = None
        if width <= SPARSE * len(self.at):
            self.least, self.table = least, np.full(width, -1, dtype=np.int64)
            self.table[self.at - least] = np.arange(len(self.at))
        else:
            self.order = np.argsort(self.at)

    def sources(self, flat: Mapping[RawBlock, Indices]) -> Ids:
        """Per unit, the one that takes its place."""
        source = places([(block, flat[block][index]) for block, index in self.atoms])
        if self.order is None:
            where = self.table[source - self.least]
        else:
            where = self.order[np.searchsorted(self.at, source, sorter=self.order)]
        assert np.array_equal(self.at[where], source), "a class is not closed"
        return self.units[where]


def _names(roots: Ids, member: Hashes) -> Hashes:
    """Per unit, a hash of its class, or of the class that takes its place, and its side in it."""
    return mix(mix(roots, 31) + member, 32)


class _Table:
    """The rows of a claim, to be held against their images under permutations."""

    def __init__(self, claim: Claim, names: Hashes) -> None:
        self.claim = claim
        key, value = self._rows(names)
        self.known, first, row = np.unique(key, return_index=True, return_inverse=True)
        self.value = value.ravel()[first]
        contradicts_itself = bool((self.value[row.reshape(value.shape)] != value).any())
        self.total = None if contradicts_itself else _total(key, value)

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
        if self.total is not None and self.total == _total(key, value):
            return []  # the rows have changed places, no more
        at = np.searchsorted(self.known, key).clip(max=len(self.known) - 1)
        wrong = (self.known[at] == key) & (self.value[at] != value)
        if not wrong.any():
            return []
        ids = [_ids_in(c, wrong) for c in (*self.claim.keys, *self.claim.values)]
        return [(self.claim.site, np.concatenate(ids))]


def _total(key: Hashes, value: Hashes) -> int:
    """Of all rows, in whatever order."""
    return int(mix(mix(key, 34) + value, 35).sum(dtype=np.uint64))


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
    blocks, indices = permutation.symmetry.blocks, permutation.indices
    taken = [(g.axes, source_of(blocks, indices, described, g)) for g in described.groups]
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
