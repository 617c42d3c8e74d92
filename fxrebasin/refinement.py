"""From units to blocks: which units can be exchanged freely.

1. Congruence: parents with the same children are one unit; a parent all of whose children also
   lie inside another lies inside that one itself.
2. Colour refinement: two units can only be exchanged if they occur in the same coordinates of
   the same parameters and reductions, and their parents and children can.
3. Units of one colour under one parent form a block. A unit that is alone of its colour under
   its parent *follows* it; one with several independent parents is *derived* from them.

Colour refinement: B. Weisfeiler and A. Leman, "The reduction of a graph to canonical form" (1968).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from .parameters import Parameter
from .relations import nest_pairs
from .units import Hashes, Ids, Units, mix

Indices = NDArray[np.int64]

ROUNDS = 6
"""How often parents are related to parents; ending early only leaves more units to be pinned."""


@dataclass(frozen=True)
class Edges:
    """Child-parent pairs among units, with a hash of the facts that said so and of which."""

    child: Ids
    parent: Ids
    role: Hashes


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


def refine_units(units: Units, parameters: list[Parameter]) -> Classes:
    """Find the classes of exchangeable units; what cannot be told is pinned in ``units``."""
    label_occurrences(units, parameters)
    while True:
        edges = _transitive_reduction(_congruent(units), units.count)
        colours = _colours(units, edges)
        classes, ambiguous = _build_classes(units, edges, colours)
        if ambiguous.size == 0:
            return classes
        units.pin(ambiguous, "is exchangeable in a way that blocks cannot express")


def label_occurrences(units: Units, parameters: list[Parameter]) -> None:
    """Only units that occur in the same coordinates of the same parameters can be exchanged."""
    for k, parameter in enumerate(parameters):
        for j, coordinate in enumerate(parameter.named()):
            ids, counts = np.unique(coordinate, return_counts=True)
            units.label(ids, mix(units.member(ids) + mix(counts, 5), k * 64 + j))


def _edges(units: Units) -> Edges:
    if not units.parents:
        empty = np.empty(0, dtype=np.int64)
        return Edges(empty, empty, np.empty(0, dtype=np.uint64))
    children = np.concatenate([c for c, _, _ in units.parents])
    parents = np.concatenate([p for _, p, _ in units.parents])
    facts = np.concatenate([np.full(len(c), fact) for c, _, fact in units.parents])
    facts = mix(facts, 7) + mix(units.member(children), 8) + mix(units.member(parents), 9)
    child, parent = units.find(children), units.find(parents)
    proper = child != parent
    child, parent, facts = child[proper], parent[proper], facts[proper]
    keys, inverse = np.unique(child * np.int64(units.count) + parent, return_inverse=True)
    role = np.zeros(len(keys), dtype=np.uint64)
    np.add.at(role, inverse, mix(facts))
    return Edges(keys // units.count, keys % units.count, role)


def _congruent(units: Units) -> Edges:
    """Relate parents that share children: equal, nested, or both inside something coarser."""
    for _ in range(ROUNDS):
        known = units.version, len(units.parents)
        _relate_parents(units, _edges(units))
        edges = _edges(units)
        _unite_twins(units, edges)
        if known == (units.version, len(units.parents)):
            break
    return _without_cycles(units, _nest(units, _edges(units)))


def _without_cycles(units: Units, edges: Edges) -> Edges:
    """Units that lie inside one another are pinned; what a pinned unit lies in cannot move."""
    ones = np.ones(len(edges.child), dtype=np.int8)
    graph = coo_array((ones, (edges.child, edges.parent)), (units.count, units.count))
    _, component = connected_components(graph, connection="strong")
    units.pin(edges.child[component[edges.child] == component[edges.parent]], "lies inside itself")
    while True:
        still = units.is_pinned(edges.child)
        above = edges.parent[still & ~units.is_pinned(edges.parent)]
        if not above.size:
            return Edges(edges.child[~still], edges.parent[~still], edges.role[~still])
        units.pin(above, "holds a unit that is pinned")


def _relate_parents(units: Units, edges: Edges) -> None:
    """Two families of parents of the same units are related as coordinates of one tensor are.

    Only whole families that have no unit in common are, and none are equated here: a one-to-one
    relation only says that permutations commute with it.
    """
    order = np.lexsort((edges.role, edges.child))
    child, parent, role = edges.child[order], edges.parent[order], edges.role[order]
    families = {int(r): np.unique(parent[role == r]) for r in np.unique(role)}
    widest = int(np.bincount(child).max(initial=0))
    for offset in range(1, widest):
        first = np.flatnonzero(child[offset:] == child[:-offset])
        second = first + offset
        kinds = np.stack([role[first], role[second]])
        for r1, r2 in np.unique(kinds, axis=1).T.tolist():
            one, other = families[r1], families[r2]
            if np.intersect1d(one, other).size:
                continue
            here = (kinds[0] == r1) & (kinds[1] == r2)
            keys = np.unique(parent[first[here]] * np.int64(units.count) + parent[second[here]])
            a, b = keys // units.count, keys % units.count
            if np.array_equal(np.unique(a), one) and np.array_equal(np.unique(b), other):
                nest_pairs(units, a, b)


def _unite_twins(units: Units, edges: Edges) -> None:
    """Parents that have the same children in some role are one unit.

    Not within one family: there it would only say that permutations commute with the pairing.
    """
    keys = np.stack([edges.parent.astype(np.uint64), edges.role])
    kinds, kind = np.unique(keys, axis=1, return_inverse=True)
    children = np.zeros(kinds.shape[1], dtype=np.uint64)
    np.add.at(children, kind.ravel(), mix(edges.child, 11))
    order = np.argsort(children, kind="stable")
    parent, role = kinds[0][order].astype(np.int64), kinds[1][order]
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = children[order[1:]] != children[order[:-1]]
    first = np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))
    twins = np.flatnonzero(parent[first] != parent)
    pairs = np.stack([role[first[twins]], role[twins]])
    families = {int(r): parent[role == r] for r in np.unique(pairs)}
    for r1, r2 in np.unique(pairs, axis=1).T.tolist():
        if np.intersect1d(units.find(families[r1]), units.find(families[r2])).size:
            continue
        here = twins[(pairs[0] == r1) & (pairs[1] == r2)]
        a, b = parent[first[here]], parent[here]
        pinned = units.is_pinned(a) | units.is_pinned(b)
        units.pin(np.concatenate([a[pinned], b[pinned]]), "has the same units as a pinned unit")
        if len(np.unique(a)) == len(a):
            units.equate(a[~pinned], b[~pinned])


def _nest(units: Units, edges: Edges) -> Edges:
    """A parent lies inside another if its children of one role all do."""
    n = units.count
    keys = np.stack([edges.parent.astype(np.uint64), edges.role])
    kinds, kind = np.unique(keys, axis=1, return_inverse=True)
    inner_of = kinds[0].astype(np.int64)
    ones = np.ones(len(edges.child), dtype=np.int64)
    by_kind = csr_array((ones, (edges.child, kind.ravel())), (n, len(inner_of)))
    by_parent = csr_array((ones, (edges.child, edges.parent)), (n, n))
    shared = (by_kind.T @ by_parent).tocoo()
    which, outer = (c.astype(np.int64) for c in shared.coords)
    inner = inner_of[which]
    sizes = np.bincount(kind.ravel(), minlength=len(inner_of))
    all_sizes = np.bincount(edges.parent, minlength=n)
    nested = (shared.data == sizes[which]) & (inner != outer) & (sizes[which] < all_sizes[outer])
    inner, outer = inner[nested], outer[nested]
    keys = np.concatenate([edges.child * n + edges.parent, inner * n + outer])
    role = np.concatenate([edges.role, np.full(len(inner), mix(0, 13))])
    keys, first = np.unique(keys, return_index=True)
    return Edges(keys // n, keys % n, role[first])


def _transitive_reduction(edges: Edges, n: int) -> Edges:
    """Drop every edge that a path of other edges implies."""
    up = csr_array((np.ones(len(edges.child), np.int64), (edges.child, edges.parent)), (n, n))
    beyond = paths = up @ up
    while paths.nnz and (longer := paths @ up).nnz:
        paths = longer
        beyond = beyond + longer
    beyond.data[:] = 1
    implied = beyond.multiply(up).tocoo()
    keys = edges.child * n + edges.parent
    a, b = implied.coords
    kept = ~np.isin(keys, a.astype(np.int64) * n + b)
    return Edges(edges.child[kept], edges.parent[kept], edges.role[kept])


def _colours(units: Units, edges: Edges) -> Indices:
    """The stable colouring, as consecutive integers; 0 for ids that stand for nothing."""
    n = units.count
    ids = np.concatenate([ids.ravel() for ids, _ in units.labels])
    values = np.concatenate([values.ravel() for _, values in units.labels])
    roots = units.find(ids)
    own = np.zeros(n, dtype=np.uint64)
    np.add.at(own, roots, mix(values + units.member(ids)))
    live = np.zeros(n, dtype=bool)
    live[roots] = live[edges.child] = live[edges.parent] = True
    every = np.arange(n, dtype=np.int64)
    pinned = units.is_pinned(every)
    own[pinned] = mix(every[pinned], 17)
    colour = own
    count = 0
    while True:
        total = mix(own, 19)
        np.add.at(total, edges.child, mix(colour[edges.parent] + edges.role, 23))
        np.add.at(total, edges.parent, mix(colour[edges.child] + edges.role, 29))
        _, dense = np.unique(np.where(live, total, np.uint64(0)), return_inverse=True)
        if dense.max(initial=0) <= count:
            return dense.astype(np.int64)
        count = int(dense.max(initial=0))
        colour = total


def _build_classes(units: Units, edges: Edges, colours: Indices) -> tuple[Classes, Ids]:
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
        """What the parents of the units move with; None if two parents cannot be told apart."""
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
            keys = np.unique(np.stack([index for _, index in atoms]), axis=1)
            if keys.shape[1] != n:
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
