"""What was put right in a model, and what was left alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import nn

from .correcting import Goal, Method
from .moments import Moments
from .places import Place

M = TypeVar("M", bound=nn.Module)

SHOWN = 40
"""How many places a report lists when it is printed."""
NAMED = 3
"""How many names it gives for each reason."""


@dataclass(frozen=True)
class Repaired:
    """What was put right at one place."""

    name: str
    """That of the module or parameter; of a sum, those of the layers that feed it."""
    kind: str
    """``"linear"``, ``"conv2d"``, ...; ``"batch_norm"``; or ``"sum"``, of two branches."""
    channels: int
    quiet: int
    """How many channels are constant in this model or in all parents, and were left alone."""
    std_before: float
    """Standard deviation over its goal, the mean over all channels that are not quiet; of
    BatchNorm, that of its inputs over the one that the running variance stands for."""
    std_after: float
    mean_before: float
    """How far the mean was from its goal (of BatchNorm, from the running mean), in standard
    deviations, the mean over channels."""
    mean_after: float
    note: str = ""


@dataclass(frozen=True)
class RepairReport:
    """What :func:`fxrebasin.repair` has put right, place by place, and what it left alone."""

    method: Method
    sequential: bool
    batches: int
    """How many batches the statistics come from."""
    places: tuple[Repaired, ...]
    left: Mapping[str, str] = field(default_factory=dict)
    """By name, the layers and sums that were left alone, and why."""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Repaired]:
        return iter(self.places)

    def __getitem__(self, name: str) -> Repaired:
        """What was done at a place.

        Raises:
            KeyError: nothing was put right there; names the reason, if there is one.
        """
        for place in self.places:
            if place.name == name:
                return place
        raise KeyError(f"{name!r}: {self.left.get(name, 'there is no such place')}")

    def __repr__(self) -> str:
        units = sum(place.channels - place.quiet for place in self.places)
        return f"RepairReport({self.method}, {len(self)} places, {units:,} channels)"

    def __str__(self) -> str:
        order = ", layer by layer" if self.sequential else ""
        lines = [f"{self.method}{order}: {len(self)} places on {self.batches} batches"]
        if self.places:
            lines += _table(self.places)
        reasons: dict[str, list[str]] = {}
        for name, reason in self.left.items():
            reasons.setdefault(reason, []).append(name)
        for reason, names in reasons.items():
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            lines.append(f"left alone: {', '.join(names[:NAMED])}{more}: {reason}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def _table(places: Sequence[Repaired]) -> list[str]:
    head = ("place", "kind", "channels", "quiet", "std", "->", "mean off", "->", "")
    rows = [
        (
            *(p.name, p.kind, f"{p.channels:,}", f"{p.quiet:,}"),
            *(f"{p.std_before:.3g}", f"{p.std_after:.3g}"),
            *(f"{p.mean_before:.2g}", f"{p.mean_after:.2g}", p.note),
        )
        for p in places[:SHOWN]
    ]
    widths = [max(len(row[k]) for row in (head, *rows)) for k in range(len(head))]
    lines = []
    for row in (head, *rows):
        cells = (
            c.ljust(w) if k in (0, 1, 8) else c.rjust(w) for k, (c, w) in _numbered(row, widths)
        )
        lines.append("  ".join(cells).rstrip())
    if len(places) > SHOWN:
        lines.append(f"and {len(places) - SHOWN} more")
    return lines


def _numbered(row: Sequence[str], widths: Sequence[int]) -> Iterator[tuple[int, tuple[str, int]]]:
    return enumerate(zip(row, widths, strict=True))


def repaired(
    place: Place,
    before: Moments,
    after: Moments,
    goal: Goal,
    *,
    alive: torch.Tensor,
    stored: Goal | None = None,
    note: str = "",
) -> Repaired:
    """What was put right at a place, from what was measured before and after.

    Args:
        place: where.
        before, after: the statistics there.
        goal: what they were to become.
        alive: which channels were corrected.
        stored: what the statistics before are compared with, if not with the goal.
        note: what else there is to say.
    """
    pairs = ((before, stored or goal), (after, goal))
    is_norm = place.kind == "batch_norm"
    stds = [_mean(((m.variance.sqrt() if is_norm else m.std) / g.std)[alive]) for m, g in pairs]
    means = [_mean(((m.mean - g.mean).abs() / g.std)[alive]) for m, g in pairs]
    return Repaired(
        name=place.name,
        kind=place.kind,
        channels=place.channels,
        quiet=int((~alive).sum()),
        std_before=stds[0],
        std_after=stds[1],
        mean_before=means[0],
        mean_after=means[1],
        note=note,
    )


def _mean(figures: torch.Tensor) -> float:
    return float(figures.mean()) if figures.numel() else float("nan")


def attach(report: RepairReport, module: M) -> M:
    """Have a module say, as ``module.repair_report``, what was put right in it."""
    vars(module)["repair_report"] = report
    return module
