"""The constraint graph: which tensor axes are bound to which, and by what.

Nodes are tensor axes, ``(name, dim)``, of parameters, buffers and values of the traced graph.
Edges carry the name of the graph node that imposed them and their kind:

========= ==========================================================================
equal     both axes hold the same units
part      one axis holds some of the units of the other (concat, split)
product   the axes share units, but at least one holds others besides (flatten, heads)
parent    units of one axis are parents of units of the other
pinned    the units of an axis were pinned there
========= ==========================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np
from scipy.sparse import csr_array

from ..layouts.coordinates import varies_on
from ..layouts.ids import Ids, sorted_set
from ..layouts.layout import Layout
from ..layouts.units import Units
from ..symmetry.evidence import Axis, Kind


@dataclass(frozen=True)
class AxisUnits:
    """The movable units along one axis of a tensor."""

    axis: Axis
    units: tuple[Ids, ...]
    """Per coordinate that varies on the axis, its distinct units."""
    alone: bool
    """Is there just one coordinate, pinned ones counted, and does it vary on no other axis?"""


def axes_of(name: str, layout: Layout, units: Units) -> list[AxisUnits]:
    """The axes of a tensor that have movable units, with these."""
    result = []
    for d in range(layout.ndim):
        found = []
        here = [c for c in layout.coordinates if c.shape[d] > 1]
        for coordinate in here:
            ids = sorted_set(units.find(coordinate[coordinate >= 0]))
            ids = ids[~units.is_pinned(ids)]
            if ids.size:
                found.append(ids)
        if found:
            alone = len(here) == 1 and len(varies_on(here[0])) == 1
            result.append(AxisUnits((name, d), tuple(found), alone))
    return result


def find_pinned_axes(name: str, layout: Layout, units: Units, since: int) -> list[Axis]:
    """The axes of a tensor with units that were pinned for a cause numbered from ``since`` on."""
    found: set[Axis] = set()
    for coordinate in layout.coordinates:
        if (units.cause(coordinate[coordinate >= 0]) >= since).any():
            found.update((name, d) for d in varies_on(coordinate))
    return sorted(found)


class Sharing:
    """Which of some axes hold units together, known without comparing every two of them.

    Many axes hold the very same units, as those of a residual stream do: what is compared is the
    different sets of units that there are.
    """

    def __init__(self, axes: Sequence[AxisUnits]) -> None:
        numbers: dict[bytes, int] = {}
        self.sets = [[numbers.setdefault(u.tobytes(), len(numbers)) for u in x.units] for x in axes]
        self._holders: list[list[int]] = [[] for _ in numbers]
        distinct: dict[int, Ids] = {}
        for k, (axis, sets) in enumerate(zip(axes, self.sets, strict=True)):
            for number, ids in zip(sets, axis.units, strict=True):
                self._holders[number].append(k)
                distinct[number] = ids
        lengths = [len(distinct[k]) for k in range(len(numbers))]
        self._units, column = np.unique(
            np.concatenate([*distinct.values(), np.empty(0, dtype=np.int64)]), return_inverse=True
        )
        row = np.repeat(np.arange(len(numbers)), lengths)
        shape = (len(numbers), len(self._units))
        self._incidence = csr_array((np.ones(len(row), dtype=np.int64), (row, column)), shape)
        self._overlaps = csr_array(self._incidence @ self._incidence.T)

    def overlapping(self, number: int) -> Ids:
        """The sets that have units in common with one, itself included."""
        found: Ids = self._overlaps.indices[slice(*self._overlaps.indptr[[number, number + 1]])]
        return found

    def partners(self, k: int) -> list[int]:
        """The axes that have units in common with one, itself included."""
        sets = {s for number in self.sets[k] for s in self.overlapping(number).tolist()}
        return sorted({holder for s in sets for holder in self._holders[s]})

    def holders(self, ids: Ids) -> list[int]:
        """The axes with any of some units."""
        is_wanted = np.isin(self._units, ids).astype(np.int64)
        sets = np.flatnonzero(self._incidence @ is_wanted)
        return sorted({holder for s in sets.tolist() for holder in self._holders[s]})


def connect(
    graph: nx.MultiGraph, node: str, results: list[AxisUnits], inputs: list[AxisUnits]
) -> Sharing:
    """Add an edge for every two axes, not both of results, that share units at a node of the
    traced graph."""
    axes = [*results, *inputs]
    sharing = Sharing(axes)
    for k, one in enumerate(axes):
        for other in sharing.partners(k):
            if other > k and other >= len(results) and one.axis != axes[other].axis:
                same = not set(sharing.sets[k]).isdisjoint(sharing.sets[other])
                alone = one.alone and axes[other].alone
                kind: Kind = "part" if not same else "equal" if alone else "product"
                graph.add_edge(one.axis, axes[other].axis, node=node, kind=kind)
    return sharing


def connect_parents(
    graph: nx.MultiGraph,
    node: str,
    axes: list[AxisUnits],
    sharing: Sharing,
    child: Ids,
    parent: Ids,
) -> None:
    """Add an edge for every two axes of which one holds parents of units of the other."""
    above = [axes[k] for k in sharing.holders(parent)]
    for one in (axes[k] for k in sharing.holders(child)):
        for other in above:
            if one.axis != other.axis:
                graph.add_edge(one.axis, other.axis, node=node, kind="parent")
