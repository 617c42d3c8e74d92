"""What became of one random network: measured, kept, and made simpler where it fails."""

from __future__ import annotations

import json
import random
import time
import warnings
from dataclasses import dataclass, replace

import torch

from benchmarks.fuzz.networks import Recipe, draw
from benchmarks.fuzz.shrinking import shrink
from benchmarks.fuzz.soundness import Verdict, judge
from benchmarks.measuring.processes import Lost, describe

SHRINKING = 60
"""Seconds after which a failing network is taken as it is."""


@dataclass(frozen=True)
class Row:
    """What became of one network."""

    profile: str
    seed: int
    commit: str
    recipe: str = ""
    """The network, or how it is drawn where that never ended."""
    verdict: Verdict | None = None
    crash: str = ""
    shrunk: str = ""

    @property
    def key(self) -> tuple[str, int]:
        return (self.profile, self.seed)

    @property
    def failures(self) -> list[str]:
        """What is wrong, worst first; empty where nothing is."""
        if self.verdict is None:
            return [f"crashed: {self.crash}"]
        if not self.verdict.judged:
            return []
        return [
            *([] if self.verdict.sound else ["wrong"]),
            *([] if self.verdict.raw_sound else ["wrong without test"]),
        ]


def failures_of(recipe: Recipe) -> list[str]:
    """The failures of a network, as those of a row; of a crash, only the kind of error."""
    try:
        return Row("", 0, "", verdict=judge(recipe)).failures
    except Exception as error:  # any failure is a result here
        return [f"crashed: {type(error).__name__}"]


def measure(row: Row) -> Row:
    """Draw a network and judge it; runs in another process."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # oneDNN's, about layers that it does not have
    recipe = draw(random.Random(row.seed).choice, row.profile)
    row = replace(row, recipe=repr(recipe))
    try:
        row = replace(row, verdict=judge(recipe))
    except Exception as error:  # any failure is a result here
        row = replace(row, crash=describe(error))
    if row.failures:
        wanted = row.failures[0].partition(": ")[0]
        kind = failures_of(recipe)[:1] if wanted == "crashed" else [wanted]
        stop = time.monotonic() + SHRINKING
        smallest = shrink(recipe, lambda r: time.monotonic() < stop and failures_of(r)[:1] == kind)
        row = replace(row, shrunk=repr(smallest))
    return row


def lost(found: Lost[Row]) -> Row:
    """The row of a network whose process died, hung, or could not draw it."""
    row = found.task
    how = f"draw(random.Random({row.seed}).choice, {row.profile!r})"
    return replace(row, recipe=how, crash=found.reason)


def read(line: str) -> Row:
    """A row from a line of the results."""
    content = json.loads(line)
    if content["verdict"] is not None:
        content["verdict"] = Verdict(**content["verdict"])
    return Row(**content)
