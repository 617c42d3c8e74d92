"""The geometry of a drawing of blocks, in inches: a rectangle for every block.

Every row of the drawing has a scene of its own, so that its tracks are only as high as what it
shows. The height of a block grows with the square root of its units.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from .arrangement import Arrangement
from .events import Event


@dataclass(frozen=True)
class Style:
    """Measures in inches; the font in points."""

    column: float = 1.08
    gutter: float = 0.15
    lowest: float = 0.3
    growth: float = 0.55
    gap: float = 0.16
    pad: float = 0.06
    heading: float = 0.3
    stub: float = 0.13
    marker: float = 0.03
    font: float = 7.5
    line: float = 1.1


COMFORTABLE = Style()
COMPACT = Style(
    column=0.66,
    gutter=0.11,
    lowest=0.14,
    growth=0.3,
    gap=0.05,
    pad=0.04,
    heading=0.22,
    stub=0.06,
    marker=0.02,
    font=5.5,
    line=0.7,
)


@dataclass(frozen=True)
class Box:
    """The rectangle of a block."""

    left: float
    bottom: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.left + self.width

    @property
    def top(self) -> float:
        return self.bottom + self.height

    @property
    def middle(self) -> float:
        return self.bottom + self.height / 2


@dataclass
class Scene:
    """One row: from level ``first`` to level ``last``."""

    layout: Arrangement
    style: Style
    first: int
    last: int
    boxes: dict[str, Box] = field(default_factory=dict)
    height: float = 0.0

    def __post_init__(self) -> None:
        self.largest = max(dict(self.layout.graph.nodes(data="units")).values(), default=1)
        self.height = self._place(self.layout.roots, 0.0, self.style.gap, 0)

    @property
    def left(self) -> float:
        """Where the row begins: a little of what the row above showed is seen again."""
        return (self.first - 0.55) * self.style.column

    @property
    def right(self) -> float:
        end = 0.55 if self.last == self.layout.last_level else 0.0
        return (self.last + end) * self.style.column

    def shows(self, name: str) -> bool:
        start, end = self.layout.spans[name]
        return start < self.last and end >= self.first

    def events(self) -> Iterator[Event]:
        final = self.last == self.layout.last_level
        for event in self.layout.events:
            if self.first <= event.level < self.last or (final and event.level == self.last):
                yield event

    def _height_of(self, name: str) -> float:
        """Of a block; one with blocks inside is as high as they are together."""
        inside = [n for n in self.layout.children[name] if self.shows(n)]
        if not inside:
            units = self.layout.graph.nodes[name]["units"]
            return self.style.lowest + self.style.growth * math.sqrt(units / self.largest)
        tracks = self._tracks(inside)
        return self.style.heading + sum(tracks.values()) + self.style.pad * len(tracks)

    def _tracks(self, names: list[str]) -> dict[int, float]:
        """The tracks in use, from the lowest, with their heights."""
        heights: dict[int, float] = {}
        for name in names:
            track = self.layout.tracks[name]
            heights[track] = max(heights.get(track, 0.0), self._height_of(name))
        return dict(sorted(heights.items()))

    def _place(self, names: list[str], bottom: float, gap: float, depth: int) -> float:
        """Give boxes to blocks and to all inside them; return how high they are together."""
        names = [name for name in names if self.shows(name)]
        tracks = self._tracks(names)
        bases: dict[int, float] = {}
        y = bottom
        for track, height in tracks.items():
            bases[track] = y
            y += height + gap
        for name in names:
            start, end = self.layout.spans[name]
            track, height = self.layout.tracks[name], self._height_of(name)
            inset = self.style.gutter + depth * self.style.pad
            left = start * self.style.column + inset
            width = (end - start) * self.style.column - 2 * inset
            low = bases[track] + (tracks[track] - height) / 2
            self.boxes[name] = Box(left, low, width, height)
            inside = self.layout.children[name]
            if inside:
                self._place(inside, low + self.style.pad, self.style.pad, depth + 1)
        return max(y - gap - bottom, 0.0)
