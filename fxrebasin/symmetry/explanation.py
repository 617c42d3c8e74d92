"""Why an axis of a parameter moves as it does, or why it does not.

The answer is read off the constraint graph: the shortest path of constraints from the axis to the
other axes that its blocks move, or to the place where its units were pinned.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import networkx as nx

from ..errors import InvalidArgumentError
from .evidence import Axis, Evidence
from .kinds import BlockKind
from .parts import Block, Group, ParameterSymmetry, Pinned

SHOWN = 12


@dataclass(frozen=True)
class Link:
    """One constraint on the way: the node that imposed it, and the axis that it leads to."""

    axis: Axis
    node: str
    kind: str
    source: str

    def __str__(self) -> str:
        line = f"  [{self.source}]" if self.source else ""
        return f"{self.kind} {_spelled(self.axis)} by {self.node}{line}"


@dataclass(frozen=True)
class Explanation:
    """What is known about one axis of a parameter."""

    axis: Axis
    size: int
    blocks: tuple[Block, ...]
    """The blocks that move units on this axis; empty where none does."""
    moves_with: dict[Axis, tuple[Link, ...]]
    """The other axes of parameters that these blocks move, and how the constraints lead there."""
    pinned: str
    """Why units on this axis cannot move; empty where all do."""
    pinned_units: int
    path: tuple[Link, ...]
    """The constraints that lead from this axis to the place where units were pinned."""
    pinned_by: tuple[str, ...] = ()
    """The buffers that units meet at that place, which would move if ``movable`` named them."""
    kinds: Mapping[str, BlockKind] = field(default_factory=dict)
    """Per block, which group acts on its units, and the ops that keep it from being larger."""

    def __str__(self) -> str:
        lines = [f"{_spelled(self.axis)}, {self.size} entries"]
        for block in self.blocks:
            nested = f", {block.size} under each unit of {block.parent}" if block.parent else ""
            kind = self.kinds.get(block.name)
            of_kind = f", of the kind {kind.describe(block.size)}" if kind else ""
            lines.append(f"  moves with block {block.name} ({block.units} units{nested}){of_kind}")
            lines += [f"    {cap}" for cap in (kind.caps if kind else ())]
            if kind and kind.absorbed:
                lines.append(f"    where {', '.join(kind.absorbed)} can be absorbed")
        for axis, steps in list(self.moves_with.items())[:SHOWN]:
            through = " -> ".join(dict.fromkeys(step.node for step in steps))
            lines.append(
                f"    and so does {_spelled(axis)}" + (f", through {through}" * bool(through))
            )
        if len(self.moves_with) > SHOWN:
            lines.append(f"    and {len(self.moves_with) - SHOWN} more axes")
        if self.pinned:
            lines.append(f"  {self.pinned_units} units are pinned: {self.pinned}")
            lines += [f"    {step}" for step in self.path]
        for name in self.pinned_by:
            lines.append(
                f"    by the buffer {name}, a constant as far as one can see; if its entries "
                f"belong to units, analyze(..., movable={name!r}) lets them move"
            )
        return "\n".join(lines)


def explain(symmetry: Group, evidence: Evidence | None, name: str, dim: int) -> Explanation:
    """Explain one axis of a parameter; see :meth:`fxrebasin.Symmetry.explain`."""
    if evidence is None:
        raise InvalidArgumentError(
            "this symmetry was read from JSON, which does not keep the constraint graph; "
            "explain one that fr.analyze has returned"
        )
    parameter = _parameter(symmetry, name)
    ndim = len(parameter.shape)
    if not -ndim <= dim < ndim:
        raise InvalidArgumentError(
            f"{name!r} has {ndim} axes, so there is no axis {dim} to explain"
        )
    axis = (parameter.name, dim % ndim)
    blocks = tuple(_blocks_on(symmetry, parameter, axis[1]))
    others = dict.fromkeys(a for block in blocks for a in block.axes if a != axis)
    paths = _paths(evidence, axis)
    pin = next((p for p in symmetry.pinned if (p.parameter, p.dim) == axis), None)
    path = _path_to_pin(evidence, paths, pin) if pin else ()
    return Explanation(
        axis,
        parameter.shape[axis[1]],
        blocks,
        {other: _links(evidence, paths.get(other, [])) for other in others},
        pin.reason if pin else "",
        pin.units if pin else 0,
        path,
        tuple(sorted(evidence.buffers.get(path[-1].node, ()))) if path else (),
        {b.name: found for b in blocks if (found := symmetry.kinds.blocks.get(b.name))},
    )


def _parameter(symmetry: Group, name: str) -> ParameterSymmetry:
    for parameter in symmetry.parameters:
        if name in parameter.names:
            return parameter
    close = difflib.get_close_matches(name, [n for p in symmetry.parameters for n in p.names])
    hint = f"; did you mean {', '.join(close)}?" if close else ""
    raise InvalidArgumentError(f"the model has no parameter {name!r}{hint}")


def _blocks_on(symmetry: Group, parameter: ParameterSymmetry, dim: int) -> Iterable[Block]:
    names = {
        block: None
        for group in parameter.groups
        if dim in group.axes
        for segment in group.segments
        for block in segment.blocks
    }
    return [symmetry.blocks[name] for name in names]


def _paths(evidence: Evidence, axis: Axis) -> dict[Axis, list[Axis]]:
    """The shortest paths of constraints from an axis to all others that it is bound to."""
    if axis not in evidence.graph:
        return {}
    found: dict[Axis, list[Axis]] = nx.single_source_shortest_path(evidence.graph, axis)
    return found


def _links(evidence: Evidence, path: list[Axis]) -> tuple[Link, ...]:
    steps = []
    for one, other in pairwise(path):
        edge = next(iter(evidence.graph[one][other].values()))
        steps.append(_link(evidence, other, edge["node"], edge["kind"]))
    return tuple(steps)


def _link(evidence: Evidence, axis: Axis, node: str, kind: str) -> Link:
    return Link(axis, node, kind, evidence.sources.get(node, ""))


def _path_to_pin(
    evidence: Evidence, paths: dict[Axis, list[Axis]], pin: Pinned
) -> tuple[Link, ...]:
    """The shortest way to an axis that was pinned at the same node, or else to any pinned one."""
    loops = [
        (axis, edge["node"])
        for axis in paths
        for edge in evidence.graph[axis].get(axis, {}).values()
    ]
    named = [(axis, node) for axis, node in loops if pin.node and node == pin.node]
    if not loops:
        return ()
    axis, node = min(named or loops, key=lambda loop: len(paths[loop[0]]))
    return (*_links(evidence, paths[axis]), _link(evidence, axis, node, "pinned"))


def _spelled(axis: Axis) -> str:
    return f"{axis[0]}[{axis[1]}]"
