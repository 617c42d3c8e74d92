"""What learning has done to an alignment, and modules that say so."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from ..models.reported import Reported
from ..symmetry.group import Symmetry
from ..symmetry.transform import Transform
from ..verification.verify import Verification


@dataclass(frozen=True)
class LearningStep:
    """How far learning has come."""

    number: int
    """Of the step that was taken, from 1."""
    loss: float
    """Of a model between the two, on the batch of that step."""
    seconds: float
    """Since it began."""


LearningCallback = Callable[[LearningStep], object]
"""Called after every step; it raises ``StopIteration`` to make it the last."""


@dataclass(frozen=True, eq=False)
class RefineReport:
    """How a refined module came about."""

    transform: Transform
    """What took the model that was given to the one that was returned."""
    losses: tuple[float, ...]
    """At every step, of a model between the two, on the batch of that step."""
    dimension: int
    """In how many independent directions it could move."""
    verification: Verification
    seconds: float

    @property
    def symmetry(self) -> Symmetry:
        return self.transform.symmetry

    def __str__(self) -> str:
        few = max(1, min(len(self.losses) // 4, 20))
        first, last = (statistics.fmean(part) for part in (self.losses[:few], self.losses[-few:]))
        return (
            f"loss between the models {first:.4g} -> {last:.4g} (means of {few} steps) in "
            f"{len(self.losses)} steps, {self.dimension:,} directions, {self.seconds:.1f} s\n"
            f"verified: {self.verification}"
        )


class Refined(nn.Module, metaclass=Reported):
    """Any module that says how it was refined.

    A type for annotations and ``isinstance``; nothing is derived from it.
    """

    reports = RefineReport

    @property
    def report(self) -> RefineReport:
        """The losses on the way, what was learned, the error measured, the time spent."""
        raise NotImplementedError("no module is made of this class")
