"""The lines of a drawing of blocks: what is read at the right end of a block or along a bar.

At its level, a flow runs through the gutter between what ends there and what begins there. Flows
that meet in a gutter without reading or writing the same run side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from .events import Event, ancestors
from .scene import Box, Scene

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """From a block (or a pinned end) to a block (or a pinned end), over corners."""

    points: tuple[Point, ...]
    arrow: bool = True
    dot: bool = False
    """Does it begin at a block that goes on?"""


@dataclass(frozen=True)
class PinnedEnd:
    """Where a line comes from or leads to pinned units."""

    at: Point
    units: tuple[int, ...]
    side: str
    """Where there is room for a number: left, right, above or below."""


@dataclass(frozen=True)
class Loop:
    """A block that leads back to itself."""

    box: Box


@dataclass(frozen=True)
class _Crossing:
    """An event in its gutter: how high and low it goes, and what it has in common with others."""

    event: Event
    low: float
    high: float
    rank: int

    def may_share(self, other: _Crossing) -> bool:
        one, two = self.event, other.event
        apart = self.high < other.low or other.high < self.low
        return apart or {*one.reads} == {*two.reads} or {*one.writes} == {*two.writes}


def lines(scene: Scene) -> Iterator[Line | Loop]:
    """All lines between the blocks of a row."""
    events = [e for e in scene.events() if not e.pinned_units]
    for level in sorted({e.level for e in events}):
        for x, event in _side_by_side(scene, level, [e for e in events if e.level == level]):
            yield from _lines_of(scene, event, x)


def pinned_ends(scene: Scene) -> Iterator[tuple[list[Line], PinnedEnd]]:
    """What leads from pinned units and to them: one end for what meets the same blocks."""
    ends: dict[tuple[int, bool, tuple[str, ...]], list[Event]] = {}
    for event in scene.events():
        if event.pinned_units:
            ends.setdefault((event.level, event.source, event.blocks), []).append(event)
    for events in ends.values():
        at, side, inner = _pinned_end(scene, events[0])
        directed = all(event.directed for event in events)
        corner = at[0] if side in ("above", "below") else events[0].level * scene.style.column
        found = []
        for point in inner:
            points = [at, (corner, at[1]), (corner, point[1]), point]
            if not events[0].source:
                points = [*points[:0:-1], (at[0] - scene.style.marker, at[1])]
            found.append(Line(_without_repeats(points), arrow=directed))
        yield found, PinnedEnd(at, tuple(dict.fromkeys(e.pinned_units for e in events)), side)


def _pinned_end(scene: Scene, event: Event) -> tuple[Point, str, list[Point]]:
    """Where the end is, on which side of it there is room, and where it meets the blocks."""
    names = sorted(event.blocks, key=lambda name: scene.boxes[name].bottom)
    boxes, spans = [scene.boxes[name] for name in names], scene.layout.spans
    x = event.level * scene.style.column
    reach, stub = scene.style.gutter * 0.9, scene.style.stub
    if event.source and all(spans[name][0] == event.level for name in names):
        if event.level == 0 or len(names) > 1:
            return (x - reach, boxes[0].middle), "left", [(b.left, b.middle) for b in boxes]
        # Further right there is no room between the boxes.
        start = boxes[0].left + 0.2 * boxes[0].width
        return (start, boxes[0].top + stub), "above", [(start, boxes[0].top)]
    if not event.source and all(spans[name][1] == event.level for name in names):
        return (x + reach, boxes[0].middle), "right", [(b.right, b.middle) for b in boxes]
    return (x, boxes[0].bottom - stub), "below", [(x, b.bottom) for b in boxes]


def _side_by_side(scene: Scene, level: int, events: list[Event]) -> Iterator[tuple[float, Event]]:
    """Where in the gutter each event goes up or down: left into bars, right out of them."""
    x = level * scene.style.column
    crossings = sorted((_crossing(scene, e) for e in events), key=lambda c: c.rank)
    slots: list[list[_Crossing]] = []
    chosen: list[tuple[int | None, Event]] = []
    for crossing in crossings:
        if crossing.high - crossing.low < 1e-6:
            chosen.append((None, crossing.event))
            continue
        fits = (k for k, s in enumerate(slots) if all(crossing.may_share(other) for other in s))
        k = next(fits, len(slots))
        if k == len(slots):
            slots.append([])
        slots[k].append(crossing)
        chosen.append((k, crossing.event))
    apart = min(0.09, 1.4 * scene.style.gutter / max(len(slots) - 1, 1))
    for slot, event in chosen:
        yield x if slot is None else x + apart * (slot - (len(slots) - 1) / 2), event


def _crossing(scene: Scene, event: Event) -> _Crossing:
    heights = [scene.boxes[name].middle for name in event.blocks]
    spans = scene.layout.spans
    into_bar = any(spans[name][0] < event.level for name in event.writes)
    from_bar = any(spans[name][1] > event.level for name in event.reads)
    return _Crossing(event, min(heights), max(heights), 0 if into_bar else 2 if from_bar else 1)


def _lines_of(scene: Scene, event: Event, x: float) -> Iterator[Line | Loop]:
    spans = scene.layout.spans
    sources, targets = event.reads, event.writes
    if not event.directed:
        sources, targets = event.reads[:1], event.reads[1:]
    for source, target in product(sources, targets):
        one, two = scene.boxes[source], scene.boxes[target]
        if source == target:
            yield Loop(one)
        elif not _nested(scene, source, target):
            goes_on = spans[source][1] > event.level
            up = two.middle > one.middle
            edge = (x, one.top if up else one.bottom)
            points = [edge] if goes_on else [(one.right, one.middle), (x, one.middle)]
            if spans[target][0] == event.level:
                points += [(x, two.middle), (two.left, two.middle)]
            elif spans[target][1] == event.level:
                points += [(x, two.middle), (two.right, two.middle)]
            else:
                points.append((x, two.bottom if up else two.top))
            yield Line(_without_repeats(points), event.directed, goes_on)


def _nested(scene: Scene, one: str, other: str) -> bool:
    """Is one of two blocks inside the other, so that a line between them says nothing?"""
    graph = scene.layout.graph
    return one in ancestors(graph, other) or other in ancestors(graph, one)


def _without_repeats(points: list[Point]) -> tuple[Point, ...]:
    """Without corners that are none."""
    kept: list[Point] = []
    for k, (x, y) in enumerate(points):
        around = points[max(k - 1, 0) : k + 2]
        straight = (
            len({round(p[0], 6) for p in around}) == 1 or len({round(p[1], 6) for p in around}) == 1
        )
        if not (0 < k < len(points) - 1 and straight):
            kept.append((x, y))
    return tuple(kept)
