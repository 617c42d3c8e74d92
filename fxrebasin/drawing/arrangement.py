"""Where the blocks of a symmetry go in a drawing: levels from left to right, tracks upwards.

Every flow gets a level at which it reads and writes, and every block spans the levels from where
it is first written to where it is last read. A hidden layer is one level long; a residual stream,
which many layers read and write, becomes a bar along all of them. Blocks whose spans overlap go to
different tracks, long ones lowest; nested blocks have levels and tracks inside their parents.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Literal

from ..symmetry.flows import Flow, ancestors, flows
from ..symmetry.group import Symmetry

Kind = Literal["block", "stream", "parent", "nested"]


@dataclass(frozen=True)
class Event:
    """A flow at its level, between the innermost of its blocks."""

    level: int
    flow: Flow

    @property
    def source(self) -> bool:
        return not self.flow.reads

    @property
    def loop(self) -> bool:
        """Does it lead back to a block that it reads, as recurrent weights do?"""
        return not {*self.flow.reads}.isdisjoint(self.flow.writes)


@dataclass(frozen=True)
class Layout:
    """Levels and tracks of all blocks.

    >>> import torch, fxrebasin as fr
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> arrange(fr.analyze(net, args=(torch.zeros(1, 2),))).spans
    {'0.weight[0]': (0, 1)}
    """

    symmetry: Symmetry
    events: tuple[Event, ...]
    spans: dict[str, tuple[int, int]]
    tracks: dict[str, int]
    """Counted among the blocks with the same parent."""

    @property
    def last_level(self) -> int:
        return max((end for _, end in self.spans.values()), default=0)

    @cached_property
    def roots(self) -> list[str]:
        return [block.name for block in self.symmetry if block.parent is None]

    @cached_property
    def streams(self) -> set[str]:
        """Blocks that are written again after they have first been: residual streams."""
        levels: dict[str, set[int]] = {}
        for event in self.events:
            if not event.source:
                for name in event.flow.writes:
                    levels.setdefault(name, set()).add(event.level)
        return {n for n, found in levels.items() if len(found | {self.spans[n][0]}) > 1}

    def kind(self, name: str) -> Kind:
        """What a block is drawn as."""
        if self.children[name]:
            return "parent"
        if self.symmetry.blocks[name].parent is not None:
            return "nested"
        return "stream" if name in self.streams else "block"

    @cached_property
    def children(self) -> dict[str, list[str]]:
        result: dict[str, list[str]] = {block.name: [] for block in self.symmetry}
        for block in self.symmetry:
            if block.parent is not None:
                result[block.parent].append(block.name)
        return result


def arrange(symmetry: Symmetry) -> Layout:
    """Give every flow a level and every block a span of levels and a track."""
    above = {name: ancestors(symmetry, name) for name in symmetry.blocks}
    ordered = _in_order([_innermost(flow, above) for flow in flows(symmetry)])
    spans: dict[str, tuple[int, int]] = {}
    events = _late_sources(_levels(ordered, above), above)
    for event in events:
        for name in event.flow.blocks:
            for outer in (name, *above[name]):
                # What is read has been there before, even if nothing has written it.
                begin = event.level - (name not in event.flow.writes)
                start, end = spans.get(outer, (begin, event.level))
                spans[outer] = min(start, begin), max(end, event.level)
        for name in event.flow.writes:
            start, end = spans[name]
            spans[name] = start, max(end, event.level + 1)
    for name in sorted(symmetry.blocks, key=lambda n: len(above[n])):
        if name not in spans:
            spans[name] = spans[above[name][0]] if above[name] else (0, 1)
    spans = {name: (spans[name][0], max(spans[name][1], spans[name][0] + 1)) for name in above}
    for name, outside in above.items():
        for outer in outside:
            spans[outer] = spans[outer][0], max(spans[outer][1], spans[name][1])
    tracks: dict[str, int] = {}
    for parent in (None, *symmetry.blocks):
        tracks |= _pack({b.name: spans[b.name] for b in symmetry if b.parent == parent})
    return Layout(symmetry, tuple(events), spans, tracks)


def cut_rows(layout: Layout, longest: int) -> list[tuple[int, int]]:
    """Cut the levels into rows of about equal length, where few blocks are cut through.

    >>> from fxrebasin import Symmetry
    >>> chain = {f"b{k}": (k, k + 1) for k in range(10)}
    >>> cut_rows(Layout(Symmetry({}, ()), (), chain, {}), longest=6)
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


def _innermost(flow: Flow, above: dict[str, list[str]]) -> Flow:
    def deepest(names: Sequence[str]) -> tuple[str, ...]:
        outer = {a for name in names for a in above[name]}
        return tuple(name for name in names if name not in outer)

    return replace(flow, reads=deepest(flow.reads), writes=deepest(flow.writes))


def _in_order(found: Iterable[Flow]) -> list[Flow]:
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


def _levels(ordered: list[Flow], above: dict[str, list[str]]) -> list[Event]:
    start: dict[str, int] = {}
    last: dict[str, int] = {}
    final = {outer: flow for flow in ordered for n in flow.blocks for outer in (n, *above[n])}

    def earliest(flow: Flow) -> int:
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
            result.append(Event(level, flow))
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
            blocks = event.flow.writes
            others = [e for e in events if not e.source]
            needed = [e.level for e in others if meets(e.flow.writes, blocks)]
            needed += [e.level - 1 for e in others if meets(e.flow.reads, blocks)]
            event = replace(event, level=max(event.level, min(needed, default=0)))
        result.append(event)
    return result


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
