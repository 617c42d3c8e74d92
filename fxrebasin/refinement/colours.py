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

import numpy as np
from numpy.typing import NDArray

from ..layouts.causes import PinKind
from ..layouts.ids import mix
from ..layouts.layout import Parameter
from ..layouts.units import Units
from .blocks import Classes, build_classes
from .containment import Edges, containment

Indices = NDArray[np.int64]


def refine_units(units: Units, parameters: list[Parameter]) -> Classes:
    """Find the classes of exchangeable units; what cannot be told is pinned in ``units``."""
    label_occurrences(units, parameters)
    while True:
        edges = containment(units)
        colours = _colours(units, edges)
        classes, ambiguous = build_classes(units, edges, colours)
        if ambiguous.size == 0:
            return classes
        text = "is exchangeable in a way that blocks cannot express"
        units.pin(ambiguous, text, PinKind.INEXPRESSIBLE)


def label_occurrences(units: Units, parameters: list[Parameter]) -> None:
    """Only units that occur in the same coordinates of the same parameters can be exchanged."""
    for k, parameter in enumerate(parameters):
        for j, coordinate in enumerate(parameter.named()):
            ids, counts = np.unique(coordinate, return_counts=True)
            units.label(ids, mix(units.member(ids) + mix(counts, 5), k * 64 + j))


def _colours(units: Units, edges: Edges) -> Indices:
    """The stable colouring, as consecutive integers; 0 for ids that stand for nothing."""
    n = units.count
    nothing = np.empty(0, dtype=np.int64)
    ids = np.concatenate([nothing, *(ids.ravel() for ids, _ in units.labels)])
    values = np.concatenate(
        [nothing.astype(np.uint64), *(values.ravel() for _, values in units.labels)]
    )
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
