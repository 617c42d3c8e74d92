"""How an aligned module came about, and modules that say so."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ..matching.alignment import Alignment
from ..models.reported import Reported, put_report
from ..symmetry.group import Symmetry
from ..symmetry.transform import Transform
from ..verification.verify import Verification


@dataclass(frozen=True, eq=False)
class Report:
    """How an aligned module came about."""

    symmetry: Symmetry
    alignment: Alignment
    verification: Verification | None
    seconds: dict[str, float]
    """Time spent per pass."""
    mode_dependent: bool
    """Tracing baked in the eval path of something that behaves differently in training, such as
    functional dropout; to train, use ``permutation.apply_to(model_b)`` instead."""
    reference: nn.Module | None = None
    """Model A with canonical weights, those that B was aligned with; only where units could be
    rotated: else it is A as it is."""
    note: str = ""
    """What was done to both models, or could have been."""

    @property
    def permutation(self) -> Transform:
        return self.alignment.permutation

    @property
    def objective_before(self) -> float:
        return self.alignment.objective_before

    @property
    def objective_after(self) -> float:
        return self.alignment.objective_after

    @property
    def sweeps(self) -> int:
        return self.alignment.sweeps

    def __str__(self) -> str:
        times = ", ".join(f"{name} {s:.2f} s" for name, s in self.seconds.items())
        lines = [repr(self.symmetry), str(self.alignment)]
        if self.verification is not None:
            lines.append(f"verified: {self.verification}")
        if self.note:
            lines.append(self.note)
        if self.mode_dependent:
            model = "model_b" if self.reference is None else "fr.canonicalise(symmetry, model_b)"
            lines.append(
                f"holds the eval path only; to train, use report.permutation.apply_to({model})"
            )
        return "\n".join([*lines, times])


class Aligned(nn.Module, metaclass=Reported):
    """Any module that says how it came about.

    A type for annotations and ``isinstance``; nothing is derived from it. What has a report is a
    :class:`fxrebasin.RebasedModule`, or, where a model cannot be had as a graph, a module of the
    user's own class with one attribute more.
    """

    reports = Report

    @property
    def report(self) -> Report:
        """The groups found, the permutation chosen, the error measured, the time spent."""
        raise NotImplementedError("no module is made of this class")


def attach(report: Report, module: nn.Module) -> Aligned:
    """Have a module say how it came about, in the place of what the passes knew of it."""
    put_report(report, module)
    assert isinstance(module, Aligned)
    return module
