"""What is written on a drawing of blocks: short names, and the modules along the top.

The columns of a drawing are grouped by module: ``layer1.0.conv1`` stands in the group ``layer1``,
``encoder.layers.3.linear1`` in ``layers.3``, up to the first part of the name with a number. What
the group and all blocks have in common is left out of the names inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from .arrangement import Arrangement
from .events import Event


class Names:
    """The texts for one layout."""

    def __init__(self, layout: Arrangement) -> None:
        self.layout = layout
        parts = [_module(event.parameter) for event in layout.events]
        # A name keeps its last part, so that something is left of it.
        self._common = len(_common_start([p[:-1] for p in parts]))
        self._bands = self._band_per_level()

    def bands(self, first: int, last: int) -> list[tuple[int, int, str]]:
        """The groups of columns between two levels: from, to, name."""
        result = []
        for name, run in groupby(range(first, last), key=lambda k: self._bands[k]):
            columns = list(run)
            result.append((columns[0], columns[-1] + 1, ".".join(name)))
        return result

    def of(self, name: str) -> str:
        """A block's name within its group; of a nested block, what writes it and what reads it."""
        block = self.layout.graph.nodes[name]
        if block["parent"] is not None:
            written = [e for e in self.layout.events if name in e.writes]
            read = [e for e in self.layout.events if name in e.reads]
            ends = [", ".join(_own_names(events)) for events in (written, read)]
            if any(ends):
                return " → ".join(end for end in ends if end)
        parts = tuple(block["label"].split("."))
        band = self._bands[min(self.layout.spans[name][0], len(self._bands) - 1)]
        shared = len(_common_start([parts[self._common :], band]))
        common = self._common if parts[: self._common] == self._prefix() else 0
        return ".".join(parts[min(common + shared, len(parts) - 1) :])

    def _prefix(self) -> tuple[str, ...]:
        for event in self.layout.events:
            return _module(event.parameter)[: self._common]
        return ()

    def _band_per_level(self) -> list[tuple[str, ...]]:
        """Of every level, the group of what is written there for the first time."""
        spans = self.layout.spans
        found: dict[int, list[tuple[str, ...]]] = {}
        for event in self.layout.events:
            if any(spans[name][0] == event.level for name in event.writes):
                band = _band(_module(event.parameter)[self._common :])
                found.setdefault(event.level, []).append(band)
        result: list[tuple[str, ...]] = []
        for level in range(max(self.layout.last_level, 1)):
            before = result[-1] if result else ()
            here = found.get(level)
            result.append(_common_start(here) if here else before)
        return result


def _common_start(names: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    result: list[str] = []
    for parts in zip(*names, strict=False):
        if len({*parts}) > 1:
            break
        result.append(parts[0])
    return tuple(result)


def _module(parameter: str) -> tuple[str, ...]:
    module, _, own = parameter.rpartition(".")
    return tuple((module or own).split("."))


def _band(module: tuple[str, ...]) -> tuple[str, ...]:
    outer = module[:-1]
    for k, part in enumerate(outer):
        if any(c.isdigit() for c in part):
            return outer[: k + 1]
    return outer


def _own_names(events: list[Event]) -> list[str]:
    """The last part of each parameter's name that tells something."""
    found = []
    for event in events:
        module, _, own = event.parameter.rpartition(".")
        if own in ("weight", "bias"):
            own = module.rpartition(".")[2]
        found.append(own.removesuffix("_weight"))
    return list(dict.fromkeys(found))
