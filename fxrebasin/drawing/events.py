"""When each parameter is used: flows in the order of reading and writing, each at a level.

What is read at a level has been written at one before, so that time runs from left to right. What
is written by one flow after the other is a sum, which has one level.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Protocol

import networkx as nx


class Flow(Protocol):
    """A parameter that leads from blocks to blocks; what is not a block is pinned."""

    @property
    def parameter(self) -> str: ...
    @property
    def reads(self) -> tuple[str, ...]: ...
    @property
    def writes(self) -> tuple[str, ...]: ...
    @property
    def pinned_units(self) -> int:
        """How long the pinned end is; 0 where both ends are blocks."""

    @property
    def directed(self) -> bool:
        """Is it known which end is which? If not, all blocks are in ``reads``."""


@dataclass(frozen=True)
class Event:
    """A flow at its level, between the innermost of its blocks."""

    level: int
    parameter: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    pinned_units: int = 0
    directed: bool = True

    @property
    def blocks(self) -> tuple[str, ...]:
        return self.reads + self.writes

    @property
    def source(self) -> bool:
        return not self.reads

    @property
    def loop(self) -> bool:
        """Does it lead back to a block that it reads, as recurrent weights do?"""
        return not {*self.reads}.isdisjoint(self.writes)


def ancestors(graph: nx.MultiDiGraph, name: str) -> list[str]:
    """The blocks that a block is nested in, from its parent outwards."""
    result: list[str] = []
    parent = graph.nodes[name]["parent"]
    while parent is not None:
        result.append(parent)
        parent = graph.nodes[parent]["parent"]
    return result


def events_of(graph: nx.MultiDiGraph, flows: Iterable[Flow]) -> list[Event]:
    """The flows between blocks, in order and at their levels.

    >>> graph = nx.MultiDiGraph()
    >>> graph.add_node("hidden", parent=None)
    >>> last, first = Event(0, "2", ("hidden",), ()), Event(0, "1", (), ("hidden",))
    >>> [(event.level, event.parameter) for event in events_of(graph, [last, first])]
    [(0, '1'), (1, '2')]
    """
    above = {name: ancestors(graph, name) for name in graph}
    ordered = _in_order([_innermost(flow, above) for flow in flows])
    return _late_sources(_levels(ordered, above), above)


def _innermost(flow: Flow, above: dict[str, list[str]]) -> Event:
    def deepest(names: Sequence[str]) -> tuple[str, ...]:
        outer = {a for name in names for a in above[name]}
        return tuple(name for name in names if name not in outer)

    reads, writes = deepest(flow.reads), deepest(flow.writes)
    return Event(0, flow.parameter, reads, writes, flow.pinned_units, flow.directed)


def _in_order(found: Iterable[Event]) -> list[Event]:
    """As the parameters come, but no block is read before it is written.

    What leads to pinned units waits until all is written, as the head of a network does.
    """
    pending = list(found)
    written = {name for flow in pending for name in flow.writes}
    known: set[str] = set()
    result = []
    while pending:
        unfinished = {name for flow in pending for name in flow.writes}
        ready = (
            flow
            for flow in pending
            if all(n in known or n not in written or n in flow.writes for n in flow.reads)
            and (flow.writes or unfinished.isdisjoint(flow.reads))
        )
        flow = next(ready, pending[0])
        pending.remove(flow)
        known.update(flow.writes)
        result.append(flow)
    return result


def _levels(ordered: list[Event], above: dict[str, list[str]]) -> list[Event]:
    start: dict[str, int] = {}
    last: dict[str, int] = {}
    final = {outer: flow for flow in ordered for n in flow.blocks for outer in (n, *above[n])}

    def earliest(flow: Event) -> int:
        if not flow.reads:
            return max((last.get(name, 0) for name in flow.writes), default=0)
        bounds = [0]
        for name in flow.reads:
            known = next((n for n in (name, *above[name]) if n in start), None)
            if known in flow.writes:
                continue
            if known is None:
                bounds.append(1)
                continue
            written = last.get(known, 0)
            # A bar must go on a little after it was last written, for the arrow to meet it.
            ends = written > start[known] and final[known] is flow
            bounds.append(max(start[known] + 1, written + ends))
        return max(bounds)

    result = []
    # What is written by one flow after the other is a sum, which has one place.
    for _, run in groupby(ordered, key=lambda flow: flow.writes or flow.parameter):
        summed = list(run)
        level = max(earliest(flow) for flow in summed)
        for flow in summed:
            result.append(replace(flow, level=level))
            for name in flow.blocks:
                for outer in (name, *above[name]):
                    start.setdefault(outer, level - (name not in flow.writes))
            for name in flow.writes:
                for outer in (name, *above[name]):
                    last[outer] = level
    return result


def _late_sources(events: list[Event], above: dict[str, list[str]]) -> list[Event]:
    """Move what leads from pinned units to where its block is needed."""

    def meets(names: Sequence[str], blocks: Sequence[str]) -> bool:
        return any(outer in blocks for name in names for outer in (name, *above[name]))

    result = []
    for event in events:
        if event.source:
            others = [e for e in events if not e.source]
            needed = [e.level for e in others if meets(e.writes, event.writes)]
            needed += [e.level - 1 for e in others if meets(e.reads, event.writes)]
            event = replace(event, level=max(event.level, min(needed, default=0)))
        result.append(event)
    return result
