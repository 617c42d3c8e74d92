"""What was measured of one method on one pair of networks, as it is kept and shown."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

Key = tuple[str, str, float]
TOLERANCE = 1e-6
"""Relative, of what the network returns after its weights were permuted, in float64."""


@dataclass(frozen=True)
class Row:
    """One method on one pair; where a field is a tuple it has a figure for every run."""

    model: str
    method: str
    noise: float
    """Of the planted pair, relative; 0 for two random networks."""
    commit: str
    threads: int
    together: str = ""
    """Names the process: only what ran in the same one, in turn, is compared."""
    discovery: tuple[float, ...] = ()
    solve: tuple[float, ...] = ()
    sweeps: tuple[int, ...] = ()
    gains: tuple[float, ...] = ()
    matrix_gains: tuple[float, ...] = ()
    """The part of the gains that is not of vectors."""
    as_high: tuple[float, ...] = ()
    """Seconds that ours took when it was stopped at the gain of this run; infinite where it never
    got there."""
    as_high_by_matrices: tuple[float, ...] = ()
    """The same where ours counts nothing but matrices."""
    recovered: tuple[float, ...] = ()
    """The share of movable units that are back in their places; empty where it cannot be told."""
    planted_gain: float = float("nan")
    """What undoing the planted permutation would gain."""
    blocks: int = 0
    units: int = 0
    movable_units: int = 0
    """Of the group that `analyze` finds."""
    error: float = float("nan")
    """The largest change of an output of B, relative to its largest entry, in float64."""
    batch_error: float = float("nan")
    """The same where BatchNorm takes the statistics of the batch."""
    memory: float = float("nan")
    """MiB by which a process that runs nothing else grows at most."""
    failure: str = ""

    @property
    def key(self) -> Key:
        return (self.model, self.method, self.noise)

    @property
    def needs_memory(self) -> bool:
        return self.memory != self.memory and not self.noise and not self.failure

    @property
    def is_valid(self) -> bool:
        """Whether the weights are those of the same network, up to its running statistics."""
        return min(self.error, self.batch_error) <= TOLERANCE

    @property
    def status(self) -> str:
        if self.failure:
            return self.failure
        if self.error <= TOLERANCE:
            return "kept"
        if self.is_valid:
            return f"statistics left behind ({self.error:.1e})"
        return f"changed by {min(self.error, self.batch_error):.1e}"


def dumps(row: Row) -> str:
    return json.dumps(asdict(row))


def loads(line: str) -> Row:
    content: dict[str, Any] = json.loads(line)
    for name, value in content.items():
        content[name] = tuple(value) if isinstance(value, list) else value
    return Row(**content)
