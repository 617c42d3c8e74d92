"""From colours to blocks: where the units of each colour go, parents first."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np
from numpy.typing import NDArray

from ..layouts.ids import Ids, sorted_set
from ..layouts.units import Units
from .containment import Edges

Indices = NDArray[np.int64]


@dataclass(eq=False)
class RawBlock:
    """A block before it has a name: ``size`` units under each unit of its parent block."""

    size: int
    count: int
    parent: RawBlock | None

    def ancestors(self) -> list[RawBlock]:
        """From the outermost to the block itself."""
        return [*(self.parent.ancestors() if self.parent else []), self]


Atom = tuple[RawBlock, Indices]
"""A block, and for each of some units or entries the index of the block's unit it moves with."""


@dataclass(eq=False)
class UnitClass:
    """Units of one colour, and the blocks that say where they go; none if they are fixed."""

    units: Ids
    atoms: list[Atom] = field(default_factory=list)


@dataclass(frozen=True)
class Classes:
    """All classes, and for every unit its class and its index in it."""

    classes: list[UnitClass]
    of_unit: Indices
    index: Indices


def build_classes(units: Units, edges: Edges, colours: Indices) -> tuple[Classes, Ids]:
    """The classes of exchangeable units, and units that are so in a way blocks cannot express."""
    builder = _Builder(units, edges, colours)
    for colour in np.flatnonzero(np.bincount(colours) > 0):
        builder.resolve(int(colour))
    classes = Classes(builder.found, builder.of_unit, builder.index)
    return classes, np.array(builder.ambiguous, dtype=np.int64)


class _Builder:
    """Decides class by class, parents first, which blocks say where its units go."""

    def __init__(self, units: Units, edges: Edges, colours: Indices) -> None:
        self.units = units
        self.found: list[UnitClass] = []
        self.ambiguous: list[int] = []
        self.colours = colours
        self.of_unit = np.full(len(colours), -1, dtype=np.int64)
        self.index = np.zeros(len(colours), dtype=np.int64)
        order = np.lexsort((colours[edges.parent], edges.role, edges.child))
        self.child, self.parent = edges.child[order], edges.parent[order]
        self.role = edges.role[order]
        self.members = np.argsort(colours, kind="stable")
        self.bounds = np.searchsorted(colours[self.members], np.arange(colours.max() + 2))
        self.done: dict[int, UnitClass] = {}

    def resolve(self, colour: int) -> UnitClass:
        if colour in self.done:
            return self.done[colour]
        members = self.members[self.bounds[colour] : self.bounds[colour + 1]].astype(np.int64)
        result = UnitClass(members)
        self.done[colour] = result
        self.of_unit[members] = len(self.found)
        self.index[members] = np.arange(len(members))
        self.found.append(result)
        if len(members) > 1 and colour > 0:
            atoms = self._atoms_of_parents(members)
            if atoms is None:
                self.ambiguous += members.tolist()
            else:
                self._place(result, atoms)
        return result

    def _atoms_of_parents(self, members: Ids) -> list[Atom] | None:
        """What the parents of the units move with; None if two parents move with the same."""
        start = np.searchsorted(self.child, members)
        width = int(np.searchsorted(self.child, members[0], side="right") - start[0])
        atoms: list[Atom] = []
        seen = set()
        for k in range(width):
            parents = self.parent[start + k]
            kind = (int(self.role[start[0] + k]), int(self.colours[parents[0]]))
            if kind in seen:
                return None
            seen.add(kind)
            above = self.resolve(kind[1])
            where = self.index[parents]
            atoms += [(block, index[where]) for block, index in above.atoms]
        return irredundant(atoms)

    def _place(self, result: UnitClass, atoms: list[Atom]) -> None:
        n = len(result.units)
        if len(atoms) > 1:
            result.atoms = atoms
            dims, _ = dimensions(atoms)
            size = prod(block.size for block, _ in dims)
            if not size == n == len(sorted_set(places(atoms))):
                self.ambiguous += result.units.tolist()
            return
        parent, row = atoms[0] if atoms else (None, np.zeros(n, dtype=np.int64))
        count = parent.size * parent.count if parent else 1
        sizes = np.bincount(row, minlength=count)
        size = int(sizes[0])
        if (sizes != size).any():
            self.ambiguous += result.units.tolist()
        elif size == 1:
            result.atoms = atoms
        else:
            order = np.argsort(row, kind="stable")
            index = np.empty(n, dtype=np.int64)
            index[order] = np.arange(n)
            result.atoms = [(RawBlock(size, count, parent), index)]


def places(atoms: list[Atom]) -> Indices:
    """One number for the indices of each unit in all the blocks that it moves with."""
    total = np.zeros(len(atoms[0][1]), dtype=np.int64)
    for block, index in atoms:
        total = total * (block.size * block.count) + index
    return total


def dimensions(atoms: list[Atom]) -> tuple[list[Atom], list[int]]:
    """The blocks that units or entries are a product of, outermost first, with all ancestors.

    Blocks that several atoms share, with equal indices, appear once. The second result says for
    each which of the earlier ones is its parent; -1 for none.
    """
    dims: list[Atom] = []
    parents: list[int] = []
    for block, index in atoms:
        above = -1
        for ancestor in block.ancestors():
            flat = ancestor_index(block, index, ancestor)
            known = next(
                (d for d, (b, i) in enumerate(dims) if b is ancestor and np.array_equal(i, flat)),
                None,
            )
            if known is None:
                dims.append((ancestor, flat))
                parents.append(above)
                known = len(dims) - 1
            above = known
    return dims, parents


def irredundant(atoms: list[Atom]) -> list[Atom]:
    """Drop atoms that others imply: repetitions, and ancestors of other atoms."""
    kept: list[Atom] = []
    for k, (block, index) in enumerate(atoms):
        repeated = any(b is block and np.array_equal(i, index) for b, i in kept)
        implied = any(
            block is not other
            and block in other.ancestors()
            and np.array_equal(ancestor_index(other, i, block), index)
            for j, (other, i) in enumerate(atoms)
            if j != k
        )
        if not repeated and not implied:
            kept.append((block, index))
    return kept


def ancestor_index(block: RawBlock, index: Indices, ancestor: RawBlock) -> Indices:
    """The unit of ``ancestor`` under which each unit of ``block`` lies."""
    while block is not ancestor:
        assert block.parent is not None
        index = index // block.size
        block = block.parent
    return index
