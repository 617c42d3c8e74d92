"""Where blocks go in a drawing: levels from left to right, tracks upwards.

What is drawn is plain data: a graph whose nodes are the blocks, with ``size``, ``count``,
``units``, ``parent`` and ``label``, and the flows between them.

Every flow gets a level at which it reads and writes, and every block spans the levels from where
it is first written to where it is last read. A hidden layer is one level long; a residual stream,
which many layers read and write, becomes a bar along all of them. Blocks whose spans overlap go to
different tracks, long ones lowest; nested blocks have levels and tracks inside their parents.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import networkx as nx

from .events import Event, Flow, ancestors, events_of

Kind = Literal["block", "stream", "parent", "nested"]


@dataclass(frozen=True)
class Arrangement:
    """Levels and tracks of all blocks.

    >>> graph = nx.MultiDiGraph()
    >>> graph.add_node("hidden", size=8, count=1, units=8, parent=None, label="hidden")
    >>> flows = [Event(0, "in.weight", (), ("hidden",), 2), Event(0, "out.weight", ("hidden",), ())]
    >>> arrange(graph, flows).spans
    {'hidden': (0, 1)}
    """

    graph: nx.MultiDiGraph
    events: tuple[Event, ...]
    spans: dict[str, tuple[int, int]]
    tracks: dict[str, int]
    """Counted among the blocks with the same parent."""

    @property
    def last_level(self) -> int:
        return max((end for _, end in self.spans.values()), default=0)

    @cached_property
    def roots(self) -> list[str]:
        return [name for name, parent in self.graph.nodes(data="parent") if parent is None]

    @cached_property
    def streams(self) -> set[str]:
        """Blocks that are written again after they have first been: residual streams."""
        levels: dict[str, set[int]] = {}
        for event in self.events:
            if not event.source:
                for name in event.writes:
                    levels.setdefault(name, set()).add(event.level)
        return {n for n, found in levels.items() if len(found | {self.spans[n][0]}) > 1}

    def kind(self, name: str) -> Kind:
        """What a block is drawn as."""
        if self.children[name]:
            return "parent"
        if self.graph.nodes[name]["parent"] is not None:
            return "nested"
        return "stream" if name in self.streams else "block"

    @cached_property
    def children(self) -> dict[str, list[str]]:
        result: dict[str, list[str]] = {name: [] for name in self.graph}
        for name, parent in self.graph.nodes(data="parent"):
            if parent is not None:
                result[parent].append(name)
        return result


def arrange(graph: nx.MultiDiGraph, flows: Iterable[Flow]) -> Arrangement:
    """Give every flow a level and every block a span of levels and a track."""
    events = events_of(graph, flows)
    spans = _spans(events, {name: ancestors(graph, name) for name in graph})
    tracks: dict[str, int] = {}
    for siblings in _families(graph):
        tracks |= _pack({name: spans[name] for name in siblings})
    return Arrangement(graph, tuple(events), spans, tracks)


def _spans(events: list[Event], above: dict[str, list[str]]) -> dict[str, tuple[int, int]]:
    """Per block, the levels from where it is first written to where it is last read."""
    spans: dict[str, tuple[int, int]] = {}
    for event in events:
        for name in event.blocks:
            for outer in (name, *above[name]):
                # What is read has been there before, even if nothing has written it.
                begin = event.level - (name not in event.writes)
                start, end = spans.get(outer, (begin, event.level))
                spans[outer] = min(start, begin), max(end, event.level)
        for name in event.writes:
            start, end = spans[name]
            spans[name] = start, max(end, event.level + 1)
    for name in sorted(above, key=lambda n: len(above[n])):
        if name not in spans:
            spans[name] = spans[above[name][0]] if above[name] else (0, 1)
    spans = {name: (spans[name][0], max(spans[name][1], spans[name][0] + 1)) for name in above}
    for name, outside in above.items():
        for outer in outside:
            spans[outer] = spans[outer][0], max(spans[outer][1], spans[name][1])
    return spans


def cut_rows(layout: Arrangement, longest: int) -> list[tuple[int, int]]:
    """Cut the levels into rows of about equal length, where few blocks are cut through.

    >>> chain = {f"b{k}": (k, k + 1) for k in range(10)}
    >>> cut_rows(Arrangement(nx.MultiDiGraph(), (), chain, {}), longest=6)
    [(0, 5), (5, 10)]
    """
    last = max(layout.last_level, 1)
    rows = -(-last // longest)
    ideal = last / rows
    # What ends at a cut counts for less than what goes on: the next row only repeats its end.
    crossing = [
        sum((s < k < e) + 0.5 * (e == k) for s, e in layout.spans.values()) for k in range(last + 1)
    ]
    # best[k]: the cost of cutting levels 0 to k into whole rows, and where the last row begins.
    best: dict[int, tuple[float, int]] = {0: (0.0, 0)}
    for k in range(1, last + 1):
        options = [
            (best[j][0] + crossing[k] + 12 * ((k - j) / ideal - 1) ** 2, j)
            for j in range(max(0, k - longest), k)
        ]
        best[k] = min(options)
    result = []
    while last:
        result.append((best[last][1], last))
        last = best[last][1]
    return result[::-1]


def _families(graph: nx.MultiDiGraph) -> list[list[str]]:
    """The blocks with the same parent, for every parent and for none."""
    result: dict[str | None, list[str]] = {}
    for name, parent in graph.nodes(data="parent"):
        result.setdefault(parent, []).append(name)
    return list(result.values())


def _pack(spans: dict[str, tuple[int, int]]) -> dict[str, int]:
    """Long spans on the lowest tracks, none overlapping another on the same track."""
    tracks: list[list[tuple[int, int]]] = []
    result = {}
    for name in sorted(spans, key=lambda n: (spans[n][0] - spans[n][1], spans[n][0])):
        start, end = spans[name]
        free = (k for k, t in enumerate(tracks) if all(e <= start or end <= s for s, e in t))
        k = next(free, len(tracks))
        if k == len(tracks):
            tracks.append([])
        tracks[k].append((start, end))
        result[name] = k
    return result
