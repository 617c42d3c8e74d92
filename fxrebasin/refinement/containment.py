"""Which units lie inside which: the parents of every unit, completed and without detours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from ..layouts.causes import PinKind
from ..layouts.ids import Hashes, Ids, count_distinct, mix, sorted_set
from ..layouts.pairs import nest_pairs
from ..layouts.units import Units

ROUNDS = 6
"""How often parents are related to parents; ending early only leaves more units to be pinned."""


@dataclass(frozen=True)
class Edges:
    """Child-parent pairs among units, with a hash of the facts that said so and of which."""

    child: Ids
    parent: Ids
    role: Hashes

    @cached_property
    def families(self) -> tuple[Ids, Hashes, Ids]:
        """Every parent with every role in which it has children, and which of these edges go to."""
        roles, role = np.unique(self.role, return_inverse=True)
        key = self.parent * np.int64(len(roles)) + role
        kinds = sorted_set(key)
        return kinds // len(roles), roles[kinds % len(roles)], np.searchsorted(kinds, key)


def containment(units: Units) -> Edges:
    """The edges from units to the parents that they lie directly inside."""
    return _transitive_reduction(_congruent(units), units.count)


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
    seen, edges = _state(units), _edges(units)
    for _ in range(ROUNDS):
        known = seen
        _relate_parents(units, edges)
        seen, edges = _renewed(units, seen, edges)
        _unite_twins(units, edges)
        seen, edges = _renewed(units, seen, edges)
        if known == seen:
            break
    return _without_cycles(units, _nest(units, edges))


def _state(units: Units) -> tuple[int, int]:
    """What edges depend on."""
    return units.version, len(units.parents)


def _renewed(units: Units, seen: tuple[int, int], edges: Edges) -> tuple[tuple[int, int], Edges]:
    """The edges as they are now, which are many: the same where nothing was learned."""
    now = _state(units)
    return now, edges if now == seen else _edges(units)


def _without_cycles(units: Units, edges: Edges) -> Edges:
    """Units that lie inside one another are pinned; what a pinned unit lies in cannot move."""
    ones = np.ones(len(edges.child), dtype=np.int8)
    graph = coo_array((ones, (edges.child, edges.parent)), (units.count, units.count))
    _, component = connected_components(graph, connection="strong")
    inside_itself = edges.child[component[edges.child] == component[edges.parent]]
    units.pin(inside_itself, "lies inside itself", PinKind.NESTING)
    while True:
        still = units.is_pinned(edges.child)
        above = edges.parent[still & ~units.is_pinned(edges.parent)]
        if not above.size:
            return Edges(edges.child[~still], edges.parent[~still], edges.role[~still])
        units.pin(above, "holds a unit that is pinned", PinKind.NESTING)


def _relate_parents(units: Units, edges: Edges) -> None:
    """Two families of parents of the same units are related as coordinates of one tensor are.

    Only whole families that have no unit in common are, and none are equated here: a one-to-one
    relation only says that permutations commute with it.
    """
    order = np.lexsort((edges.role, edges.child))
    child, parent, role = edges.child[order], edges.parent[order], edges.role[order]
    parents, roles, _ = edges.families
    widest = int(np.bincount(child).max(initial=0))
    for offset in range(1, widest):
        first = np.flatnonzero(child[offset:] == child[:-offset])
        second = first + offset
        for (r1, r2), here in _by_kind(role[first], role[second]):
            one, other = parents[roles == r1], parents[roles == r2]
            if np.intersect1d(one, other, assume_unique=True).size:
                continue
            a, b = _distinct_pairs(parent[first[here]], parent[second[here]])
            if np.array_equal(sorted_set(a), one) and np.array_equal(sorted_set(b), other):
                nest_pairs(units, a, b)


def _by_kind(one: Hashes, other: Hashes) -> Iterator[tuple[tuple[np.uint64, np.uint64], Ids]]:
    """Every pair of roles that occurs, in order, and where."""
    first, i = np.unique(one, return_inverse=True)
    second, j = np.unique(other, return_inverse=True)
    kind = i * len(second) + j
    order = np.argsort(kind, kind="stable")
    for here in np.split(order, np.flatnonzero(np.diff(kind[order])) + 1):
        if here.size:
            yield (first[i[here[0]]], second[j[here[0]]]), here


def _distinct_pairs(a: Ids, b: Ids) -> tuple[Ids, Ids]:
    """In order of the first, then of the second."""
    least, width = int(b.min()), int(b.max() - b.min()) + 1
    keys = sorted_set(a * np.int64(width) + (b - least))
    return keys // width, keys % width + least


def _unite_twins(units: Units, edges: Edges) -> None:
    """Parents that have the same children in some role are one unit.

    Not within one family: there it would only say that permutations commute with the pairing.
    """
    parent, role, kind = edges.families
    children = np.zeros(len(parent), dtype=np.uint64)
    np.add.at(children, kind, mix(edges.child, 11))
    order = np.argsort(children, kind="stable")
    parent, role = parent[order], role[order]
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = children[order[1:]] != children[order[:-1]]
    first = np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))
    twins = np.flatnonzero(parent[first] != parent)
    for (r1, r2), which in _by_kind(role[first[twins]], role[twins]):
        one, other = (sorted_set(units.find(parent[role == r])) for r in (r1, r2))
        if np.intersect1d(one, other, assume_unique=True).size:
            continue
        here = twins[which]
        a, b = units.find(parent[first[here]]), units.find(parent[here])
        pinned = units.is_pinned(a) | units.is_pinned(b)
        same = np.concatenate([a[pinned], b[pinned]])
        units.pin(same, "has the same units as a pinned unit", PinKind.NESTING)
        if count_distinct(a) == len(a) == count_distinct(b):
            units.equate(a[~pinned], b[~pinned])


def _nest(units: Units, edges: Edges) -> Edges:
    """A parent lies inside another if its children of one role all do."""
    n = units.count
    inner_of, _, kind = edges.families
    ones = np.ones(len(edges.child), dtype=np.int64)
    by_kind = csr_array((ones, (edges.child, kind)), (n, len(inner_of)))
    by_parent = csr_array((ones, (edges.child, edges.parent)), (n, n))
    shared = (by_kind.T @ by_parent).tocoo()
    which, outer = (c.astype(np.int64) for c in shared.coords)
    inner = inner_of[which]
    sizes = np.bincount(kind, minlength=len(inner_of))
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
