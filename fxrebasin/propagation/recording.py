"""Record in the constraint graph what one node of a model's graph, or one op, has imposed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..layouts.layout import Layout
from ..tracing.symbolic import TORCH
from .constraint_graph import AxisUnits, axes_of, connect, connect_parents, pinned_axes
from .dispatch import LayoutMode, labelled

_FRAME = re.compile(r'File "(?P<file>.+)", line (?P<line>\d+), in (?P<function>.+)')


class Record:
    """Within it, constraints are imposed; at its end, they become edges that carry its name."""

    def __init__(self, mode: LayoutMode, site: str) -> None:
        self.mode = mode
        self.site = site
        self.operands: list[tuple[str, Any]] = []
        self.results: list[tuple[str, Any]] = []

    def operand(self, name: str, value: Any) -> None:
        self.operands.append((name, value))

    def result(self, name: str, value: Any) -> None:
        self.results.append((name, value))
        for label, tensor in labelled(name, value):
            self.mode.names[tensor] = label

    def __enter__(self) -> Record:
        self.mode.found.units.site = self.site
        self.begin()
        return self

    def begin(self) -> None:
        units = self.mode.found.units
        self.mode.touched = {}
        self.known_parents, self.known_causes = len(units.parents), len(units.causes)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is None:
            self.end()

    def end(self) -> None:
        self._connect()
        if len(self.mode.found.units.causes) > self.known_causes:
            operands = [x for o in self.operands for x in self.mode.layouts(*o)]
            self._mark_pinned([*self._touched(), *operands], self.known_causes)
        met_first = [x for x in self._touched() if x[0] not in self.mode.met]
        self.mode.met.update(name for name, _ in met_first)
        self._mark_pinned(met_first, 1)

    def _touched(self) -> list[tuple[str, Layout]]:
        return [(p.name, Layout(p.shape, tuple(p.coordinates))) for p in self.mode.touched.values()]

    def _connect(self) -> None:
        found = self.mode.found
        results = [axis for name, value in self.results for axis in self.mode.axes(name, value)]
        inputs: list[AxisUnits] = []
        for name, value in self.operands:
            inputs += self.mode.axes(name, value)
        for name, layout in self._touched():
            inputs += axes_of(name, layout, found.units)
        sharing = connect(found.graph, self.site, results, inputs)
        for child, parent, _ in found.units.parents[self.known_parents :]:
            axes = results + inputs
            connect_parents(found.graph, self.site, axes, sharing, child, parent)

    def _mark_pinned(self, layouts: list[tuple[str, Layout]], since: int) -> None:
        """A loop at every axis with units that were pinned for a cause from ``since`` on."""
        for name, layout in layouts:
            for axis in pinned_axes(name, layout, self.mode.found.units, since):
                self.mode.found.graph.add_edge(axis, axis, node=self.site, kind="pinned")


def source_line(stack_trace: str) -> str:
    """The innermost frame outside torch of a node's stack trace, as ``file:line: code``."""
    lines = stack_trace.strip().splitlines()
    for k in range(len(lines) - 1, -1, -1):
        frame = _FRAME.search(lines[k])
        if frame and TORCH not in Path(frame["file"]).parents:
            code = lines[k + 1].strip() if k + 1 < len(lines) else ""
            return f"{frame['file']}:{frame['line']}: {code}"
    return ""
