"""What was measured of one network, as it is kept and shown."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.scaling.steps import Solved

Key = tuple[str, int, int]
NAN = float("nan")


@dataclass(frozen=True)
class Row:
    """A network, and one run of it: the fastest of several, which others disturbed least."""

    family: str
    width: int
    depth: int
    commit: str
    threads: int
    parameters: int = 0
    blocks: int = 0
    runs: int = 0
    sweeps: int = 0
    discovery: float = NAN
    """Seconds of `analyze` with `check=False`."""
    products: float = NAN
    assignment: float = NAN
    evaluation: float = NAN
    rest: float = NAN
    flops: int = 0
    """Of all products of the run."""
    pass_flops: int = 0
    """Of computing every cost matrix once, in full."""
    matrix_bytes: int = 0
    """Of all cost matrices."""
    memory: float = NAN
    """Bytes by which the process grew at most."""
    solved: tuple[Solved, ...] = ()

    @property
    def key(self) -> Key:
        return (self.family, self.width, self.depth)

    @property
    def title(self) -> str:
        return self.family.replace("_", " ").replace("mlp", "MLP")

    @property
    def total(self) -> float:
        return self.products + self.assignment + self.evaluation + self.rest


def dumps(row: Row) -> str:
    return json.dumps(asdict(row))


def loads(line: str) -> Row:
    content: dict[str, Any] = json.loads(line)
    content["solved"] = tuple(Solved(*entry) for entry in content["solved"])
    return Row(**content)
