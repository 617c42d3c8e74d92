"""What is known about a model while and after it passes through the pipeline."""

from __future__ import annotations

from dataclasses import dataclass

from ..matching.alignment import Alignment
from ..symmetry.group import Symmetry
from ..symmetry.permutation import Permutation
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

    @property
    def permutation(self) -> Permutation:
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
        if self.mode_dependent:
            lines.append(
                "holds the eval path only; to train, use report.permutation.apply_to(model_b)"
            )
        return "\n".join([*lines, times])
