"""What a backend did to the graphs that it was given."""

from __future__ import annotations

from dataclasses import dataclass

from ..matching.alignment import Alignment
from ..symmetry.group import Symmetry
from ..symmetry.transform import Transform
from ..verification.verify import Verification


@dataclass(frozen=True, eq=False)
class GraphReport:
    """What was found for the weights of one captured graph."""

    alignment: Alignment
    verification: Verification
    """Of the graph that was captured last."""
    graphs: int = 1
    """How many captured graphs take these weights permuted like this: one more for every new shape
    or mode."""

    @property
    def symmetry(self) -> Symmetry:
        return self.permutation.symmetry

    @property
    def permutation(self) -> Transform:
        return self.alignment.permutation

    def __str__(self) -> str:
        graphs = "1 graph" if self.graphs == 1 else f"{self.graphs} graphs"
        return f"{graphs}: {self.symmetry!r}\n  {self.alignment}\n  verified: {self.verification}"


@dataclass(frozen=True, eq=False)
class CompileReport:
    """What was found for a compiled model: a part for every stretch between graph breaks."""

    parts: tuple[GraphReport, ...]

    @property
    def objective_before(self) -> float:
        return sum(part.alignment.objective_before for part in self.parts)

    @property
    def objective_after(self) -> float:
        return sum(part.alignment.objective_after for part in self.parts)

    @property
    def moved_units(self) -> int:
        return sum(part.permutation.moved_units for part in self.parts)

    def __str__(self) -> str:
        if not self.parts:
            return "nothing was compiled yet: call the compiled model once"
        breaks = len(self.parts) - 1
        lines = [str(part) for part in self.parts]
        if breaks:
            lines.append(f"{breaks} graph breaks; what crosses them stays in place")
        return "\n".join(lines)
