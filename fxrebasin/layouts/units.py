"""Units: the integer ids that stand for everything that can change places.

A unit is a channel, a neuron, an attention head, one feature inside a head. This module keeps
what is known about units while a model is being analysed, and nothing about tensors:

* ``equate``: two units move together, in lock step (union-find);
* ``contain``: moving the child moves the parent;
* ``label``: only units with the same labels can be exchanged;
* ``pin``: the unit may not move, and why.

Two units that were equated are *members* of one class. Both may lie on one axis, as the query and
key features of a packed projection. What keeps such members distinct is on which side of each
equation they were, which :meth:`Units.member` remembers.

>>> units = Units()
>>> a, b = units.fresh(3), units.fresh(3)
>>> units.equate(a, b)
>>> units.find(b).tolist() == a.tolist()
True
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .causes import Cause, PinKind
from .ids import Hashes, Ids, count_distinct, mix, sorted_set


@dataclass(frozen=True)
class Claim:
    """That the units in ``keys`` determine those in ``values``, in every permutation.

    All are coordinates of one tensor. Along the dims ``summed``, which no key varies on, only the
    multiset of the values counts.
    """

    keys: tuple[Ids, ...]
    values: tuple[Ids, ...]
    summed: tuple[int, ...]
    site: str


@dataclass(frozen=True)
class Meeting:
    """That an axis with units ``shared`` by all groups meets an axis whose units have a group."""

    shared: Ids
    grouped: Ids
    group: Ids
    """The number of the group that each of ``grouped`` is in."""


@dataclass(frozen=True)
class Product:
    """That units which all differ met a tensor whose own two axes are the same for all of them."""

    ids: Ids
    """The units, in order."""
    axes: tuple[tuple[Ids, Ids], tuple[Ids, Ids]]
    """The units of each of the two axes, and per unit of ``ids`` where on the axis it was met."""


@dataclass
class Units:
    """All units of one analysis, and the facts collected about them."""

    site: str = ""
    """Name of the graph node being propagated; recorded with every pin."""
    version: int = 0
    """Grows when units are equated: what was canonical before may not be canonical now."""
    pins: int = 0
    """Grows when units are pinned."""
    causes: list[Cause] = field(
        default_factory=lambda: [Cause(PinKind.UNIQUE, "differs from every other unit")]
    )
    """Why units are pinned; the first, why one that nothing has pinned may still not move."""
    parents: list[tuple[Ids, Ids, int]] = field(default_factory=list)
    labels: list[tuple[Ids, Hashes]] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)
    meetings: list[Meeting] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.count = 0
        self._facts = 0
        self._root = np.empty(1024, dtype=np.int64)
        self._member = np.zeros(1024, dtype=np.uint64)
        self._cause = np.zeros(1024, dtype=np.int32)
        self._sides = np.zeros(1024, dtype=np.uint8)
        self._is_joined = np.zeros(1024, dtype=bool)
        self._joined = np.empty(0, dtype=np.int64)
        self._positions: dict[int, Ids] = {}
        self._copies: dict[int, int] = {}
        self._known: set[int] = set()
        self._pinned_family(1, Cause(PinKind.NOTHING, "nothing is there"))

    def fresh(self, n: int) -> Ids:
        """``n`` new movable units."""
        start, self.count = self.count, self.count + n
        while self.count > len(self._root):
            self._root = np.resize(self._root, 2 * len(self._root))
            self._member = np.concatenate([self._member, np.zeros_like(self._member)])
            self._cause = np.concatenate([self._cause, np.zeros_like(self._cause)])
            self._sides = np.zeros(len(self._root), dtype=np.uint8)
            self._is_joined = np.concatenate([self._is_joined, np.zeros_like(self._is_joined)])
        ids = np.arange(start, self.count, dtype=np.int64)
        self._root[ids] = ids
        return ids

    def _pinned_family(self, n: int, cause: Cause) -> Ids:
        ids = self.fresh(n)
        self._cause[ids] = self._cause_index(cause)
        return ids

    def _cause_index(self, cause: Cause) -> int:
        if self.causes[-1] != cause:
            self.causes.append(cause)
        return len(self.causes) - 1

    def fact(self) -> int:
        """A new number for one constraint, mixed into its labels to make them unlike all others."""
        self._facts += 1
        return self._facts

    def positions(self, axis: int, n: int) -> Ids:
        """Pinned units for the positions of an axis; the same ones for every tensor."""
        known = self._positions.get(axis, np.empty(0, dtype=np.int64))
        if len(known) < n:
            text = "is a fixed place: of an input, a kernel, a feature map"
            more = self._pinned_family(n - len(known), Cause(PinKind.FIXED_PLACE, text))
            known = self._positions[axis] = np.concatenate([known, more])
        return known[:n]

    def find(self, ids: Ids) -> Ids:
        """The unit that stands for the class of each id."""
        found: Ids = self._root[ids]
        return found

    def member(self, ids: Ids) -> Hashes:
        """A hash that differs among the members of one class, and agrees across like classes."""
        found: Hashes = self._member[ids]
        return found

    def copies(self, ids: Ids) -> Ids:
        """Pinned units that differ among the members of one class, for use as a coordinate."""
        values, inverse = np.unique(self.member(ids), return_inverse=True)
        for value in values.tolist():
            if value not in self._copies:
                copy = Cause(PinKind.COPY, "copy of a unit")
                self._copies[value] = int(self._pinned_family(1, copy)[0])
        table = np.array([self._copies[value] for value in values.tolist()], dtype=np.int64)
        return table[inverse].reshape(ids.shape)

    def count_distinct(self, ids: Ids) -> int:
        """How many different ids there are."""
        return count_distinct(ids)

    def is_pinned(self, ids: Ids) -> NDArray[np.bool_]:
        return self._cause[self._root[ids]] > 0

    def cause(self, ids: Ids) -> NDArray[np.int32]:
        """Index into ``causes`` per unit; 0 where the unit is not pinned."""
        found: NDArray[np.int32] = self._cause[self._root[ids]]
        return found

    def pin(self, ids: Ids, text: str, kind: PinKind = PinKind.RULE, op: str = "") -> None:
        """Forbid units to move; what :class:`Cause` says of them is kept with the site."""
        roots = sorted_set(self._root[ids])
        roots = roots[self._cause[roots] == 0]
        if roots.size:
            self.pins += 1
            self._cause[roots] = self._cause_index(Cause(kind, text, op, self.site))

    def equate(self, a: Ids, b: Ids) -> None:
        """Unite ``a[k]`` with ``b[k]``; a one-to-one relation between movable units."""
        a, b = self.find(a), self.find(b)
        differ = a != b
        a, b = a[differ], b[differ]
        if not a.size:
            return
        if np.intersect1d(a, b).size:
            if self.is_new(a, b):
                self._commute(a, b)
            return
        sides = self._sides
        sides[a], sides[b] = 1, 2
        both = np.concatenate([a, b])
        self._joined = np.concatenate([self._joined, both[~self._is_joined[both]]])
        self._is_joined[both] = True
        side = sides[self._root[self._joined]]
        touched, side = self._joined[side > 0], side[side > 0]
        self._member[touched] = mix(self._member[touched] + side, self.fact())
        sides[both] = 0
        low, high = np.minimum(a, b), np.maximum(a, b)
        self._root[high] = low
        self._cause[low] = np.maximum(self._cause[low], self._cause[high])
        self._root[touched] = self._root[self._root[touched]]
        self.version += 1

    def _commute(self, a: Ids, b: Ids) -> None:
        """Units of one axis meet one another in another order, as after a flip.

        The map from ``a`` to ``b`` consists of paths and cycles. Whole ones of the same kind can
        be exchanged: each becomes the parent of its units, which keep their places along it.
        """
        ids = np.union1d(a, b)
        after = np.full(len(ids), -1, dtype=np.int64)
        after[np.searchsorted(ids, a)] = np.searchsorted(ids, b)
        n = len(ids)
        linked = np.flatnonzero(after >= 0)
        ones = np.ones(len(linked), dtype=np.int8)
        links = coo_array((ones, (linked, after[linked])), (n, n))
        count, component = connected_components(links, directed=False)
        length = np.bincount(component, minlength=count)
        is_path = np.zeros(count, dtype=bool)
        is_path[component[after < 0]] = True
        heads = np.full(count, n, dtype=np.int64)
        np.minimum.at(heads, component, np.arange(n))
        begins = np.setdiff1d(np.arange(n), after)
        heads[component[begins]] = begins
        place = np.zeros(n, dtype=np.int64)
        at = heads
        for step in range(int(length.max())):
            at = np.where(step < length, at, -1)
            place[at[at >= 0]] = step
            at = np.where(at >= 0, after[at], -1)
        kind = mix(length) + mix(is_path, 1)
        parents = self.fresh(count)
        self.contain(ids, parents[component])
        self.label(ids, mix(kind[component]) + mix(place, 2))

    def contain(self, child: Ids, parent: Ids) -> None:
        """``parent[k]`` is the parent of ``child[k]``."""
        child, parent = self.find(child), self.find(parent)
        if self.is_new(child, parent):
            self.parents.append((child, parent, self.fact()))

    def label(self, ids: Ids, values: Hashes) -> None:
        """Say that only units with equal values here can be exchanged."""
        if self.is_new(ids, values):
            self.labels.append((ids, mix(values, self.fact())))

    def claim(
        self, keys: tuple[Ids, ...], values: tuple[Ids, ...], summed: tuple[int, ...] = ()
    ) -> None:
        """Remember what was relied on, so that it can be held against the result."""
        if all(self.is_pinned(c).all() for c in (*keys, *values)):
            return
        form = np.array([len(keys), *summed, *(n for c in (*keys, *values) for n in c.shape)])
        if self.is_new(form, *keys, *values):
            self.claims.append(Claim(keys, values, summed, self.site))

    def is_new(self, *arrays: NDArray[np.generic]) -> bool:
        """Was nothing concluded from these arrays yet? From now on something was."""
        key = hash(tuple(array.tobytes() for array in arrays))
        if key in self._known:
            return False
        self._known.add(key)
        return True
