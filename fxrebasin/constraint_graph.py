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

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import networkx as nx
import numpy as np

from .layout import Layout, varies_on
from .units import Ids, Units, sorted_set

Axis = tuple[str, int]
Kind = Literal["equal", "part", "product", "parent", "pinned"]


@dataclass(frozen=True, eq=False)
class Evidence:
    """The constraint graph of an analysis, and where in the user's source its nodes come from."""

    graph: nx.MultiGraph
    sources: Mapping[str, str]


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


def pinned_axes(name: str, layout: Layout, units: Units, since: int) -> list[Axis]:
    """The axes of a tensor with units that were pinned for a cause numbered from ``since`` on."""
    found: set[Axis] = set()
    for coordinate in layout.coordinates:
        if (units.cause(coordinate[coordinate >= 0]) >= since).any():
            found.update((name, d) for d in varies_on(coordinate))
    return sorted(found)


def connect(
    graph: nx.MultiGraph, node: str, axes: list[AxisUnits], others: list[AxisUnits]
) -> None:
    """Add an edge for every two axes that share units at a node of the traced graph."""
    for one in axes:
        for other in others:
            kind = _kind(one, other)
            if kind is not None and one.axis != other.axis:
                graph.add_edge(one.axis, other.axis, node=node, kind=kind)


def _kind(one: AxisUnits, other: AxisUnits) -> Kind | None:
    best: Kind | None = None
    for a in one.units:
        for b in other.units:
            if a[-1] < b[0] or b[-1] < a[0]:
                continue
            if len(a) == len(b) and np.array_equal(a, b):
                return "equal" if one.alone and other.alone else "product"
            if np.isin(a, b, assume_unique=True).any():
                best = "part"
    return best


def connect_parents(
    graph: nx.MultiGraph, node: str, axes: list[AxisUnits], child: Ids, parent: Ids
) -> None:
    """Add an edge for every two axes of which one holds parents of units of the other."""
    below = [x for x in axes if any(np.isin(u, child).any() for u in x.units)]
    above = [x for x in axes if any(np.isin(u, parent).any() for u in x.units)]
    for one in below:
        for other in above:
            if one.axis != other.axis:
                graph.add_edge(one.axis, other.axis, node=node, kind="parent")
