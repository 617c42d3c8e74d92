"""Record in the constraint graph what every node of a model's graph, or every op, has imposed.

While a record is open, ops act on layouts and impose constraints; when it is closed, edges that
carry its name are drawn between the axes of its operands, its results, and the parameters it met.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from ..layouts.layout import Layout
from ..tracing.symbolic import OURS, TORCH
from .constraint_graph import AxisUnits, axes_of, connect, connect_parents, find_pinned_axes
from .dispatch import LayoutMode

_FRAME = re.compile(r'File "(?P<file>.+)", line (?P<line>\d+), in (?P<function>.+)')


class Recording:
    """All records of one run: the names that tensors have in the constraint graph."""

    def __init__(self, mode: LayoutMode) -> None:
        self.mode = mode
        self.facts = mode.facts
        self.names: Any = WeakIdKeyDictionary()
        """From tensors to the names of the records that they are results of."""
        self.met: set[str] = set()
        """The parameters that a record has met already."""

    def record(self, site: str) -> Record:
        return Record(self, site)

    def layouts(self, name: str, value: Any) -> list[tuple[str, Layout]]:
        """The layouts of the tensors in a value, each with a name of its own."""
        found = [(label, self.mode.tensors.get(t)) for label, t in label_tensors(name, value)]
        return [(label, x) for label, x in found if x is not None and x.parameter is None]

    def axes(self, name: str, value: Any) -> list[AxisUnits]:
        found = self.layouts(name, value)
        return [axis for label, x in found for axis in axes_of(label, x, self.facts.units)]


class Record:
    """Within it, constraints are imposed; at its end, they become edges that carry its name."""

    def __init__(self, recording: Recording, site: str) -> None:
        self.recording = recording
        self.facts = recording.facts
        self.site = site
        self.operands: list[tuple[str, Any]] = []
        self.results: list[tuple[str, Any]] = []

    def operand(self, name: str, value: Any) -> None:
        self.operands.append((name, value))

    def named_operand(self, tensor: torch.Tensor) -> None:
        """An operand that is the result of another record, if it is one."""
        if tensor in self.recording.names:
            self.operand(self.recording.names[tensor], tensor)

    def result(self, name: str, value: Any) -> None:
        self.results.append((name, value))
        for label, tensor in label_tensors(name, value):
            self.recording.names[tensor] = label

    def __enter__(self) -> Record:
        self.begin()
        return self

    def begin(self) -> None:
        units = self.facts.units
        units.site = self.site
        self.recording.mode.touched = {}
        self.known_parents, self.known_causes = len(units.parents), len(units.causes)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is None:
            self.end()

    def end(self) -> None:
        met = self.recording.met
        self._connect()
        if len(self.facts.units.causes) > self.known_causes:
            operands = [x for o in self.operands for x in self.recording.layouts(*o)]
            self._mark_pinned([*self._touched(), *operands], self.known_causes)
        met_first = [x for x in self._touched() if x[0] not in met]
        met.update(name for name, _ in met_first)
        self._mark_pinned(met_first, 1)

    def _touched(self) -> list[tuple[str, Layout]]:
        touched = self.recording.mode.touched.values()
        return [(p.name, Layout(p.shape, tuple(p.coordinates))) for p in touched]

    def _connect(self) -> None:
        graph, units = self.facts.graph, self.facts.units
        results = [axis for r in self.results for axis in self.recording.axes(*r)]
        inputs = [axis for o in self.operands for axis in self.recording.axes(*o)]
        for name, layout in self._touched():
            inputs += axes_of(name, layout, units)
        sharing = connect(graph, self.site, results, inputs)
        for child, parent, _ in units.parents[self.known_parents :]:
            connect_parents(graph, self.site, results + inputs, sharing, child, parent)

    def _mark_pinned(self, layouts: list[tuple[str, Layout]], since: int) -> None:
        """A loop at every axis with units that were pinned for a cause from ``since`` on."""
        for name, layout in layouts:
            for axis in find_pinned_axes(name, layout, self.facts.units, since):
                self.facts.graph.add_edge(axis, axis, node=self.site, kind="pinned")


def label_tensors(name: str, value: Any) -> list[tuple[str, torch.Tensor]]:
    """The tensors in a node's value; where there are several, each has a name of its own."""
    tensors = [t for t in tree_leaves(value) if isinstance(t, torch.Tensor)]
    if len(tensors) == 1:
        return [(name, tensors[0])]
    return [(f"{name}[{k}]", t) for k, t in enumerate(tensors)]


def source_line(stack_trace: str) -> str:
    """The innermost frame of the user's in a node's stack trace, as ``file:line: code``.

    Where Python has no text of the code, as of what was typed, the trace has none either.
    """
    lines = stack_trace.strip().splitlines()
    for k in range(len(lines) - 1, -1, -1):
        frame = _FRAME.search(lines[k])
        if frame and not {TORCH, OURS} & set(Path(frame["file"]).parents):
            place = f"{frame['file']}:{frame['line']}"
            code = lines[k + 1].strip() if k + 1 < len(lines) else ""
            return f"{place}: {code}" if code and not _FRAME.search(code) else place
    return ""
