"""Which alignments were tried, what each was worth, and modules that say so."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from ..drawing.tables import text_table
from ..matching.alignment import Alignment
from ..models.reported import Reported
from ..symmetry.group import Symmetry
from ..verification.verify import Verification

AS_IT_CAME = "as it came"
"""What it is called if nothing is aligned."""


@dataclass(frozen=True)
class AlignmentTrial:
    """A way to align that was tried."""

    name: str
    """``"as it came"``, or what was compared and the group: ``"weights, signed"``."""
    loss: float
    """Of the model half way between A and B."""
    seconds: float

    @property
    def rank(self) -> float:
        """The less the better; what is not a number is worst."""
        return math.inf if math.isnan(self.loss) else self.loss


@dataclass(frozen=True, eq=False)
class ChoiceReport:
    """How the alignment came about that led to the best model half way."""

    symmetry: Symmetry
    tried: tuple[AlignmentTrial, ...]
    """All that were tried, in order."""
    chosen: AlignmentTrial
    alignment: Alignment | None
    """What was chosen; None where that is the model as it came."""
    reference: nn.Module
    """Model A in the same gauge, between which and the result all models are good."""
    verification: Verification | None

    def __str__(self) -> str:
        rows = [
            (t.name, f"{t.loss:.4g}", f"{t.seconds:.1f} s", "chosen" if t is self.chosen else "")
            for t in self.tried
        ]
        lines = [text_table(("aligned by", "loss half way", "time", ""), rows, left=1)]
        if self.alignment is not None:
            lines.append(str(self.alignment))
        if self.verification is not None:
            lines.append(f"verified: {self.verification}")
        return "\n".join(lines)


class Chosen(nn.Module, metaclass=Reported):
    """Any module that says which alignment was chosen.

    A type for annotations and ``isinstance``; nothing is derived from it.
    """

    reports = ChoiceReport

    @property
    def report(self) -> ChoiceReport:
        """What was tried, what it led to, and what was chosen."""
        raise NotImplementedError("no module is made of this class")
