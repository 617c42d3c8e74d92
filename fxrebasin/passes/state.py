"""What the passes know of a module, and hand on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn

from ..errors import PassOrderError
from ..layouts.facts import Facts
from ..matching.alignment import Alignment
from ..models.rebased import META
from ..refinement.build import Refinement
from ..rules.registry import RuleBook
from ..symmetry.group import Symmetry
from ..tracing.eager import EagerModule
from ..verification.verify import Verification
from .report import Report


@dataclass(eq=False)
class State:
    """What the passes have found so far; kept in ``GraphModule.meta``."""

    model: nn.Module
    mode_dependent: bool = False
    front_end: str = ""
    notes: tuple[str, ...] = ()
    rules: RuleBook = field(default_factory=RuleBook)
    emitted: bool = False
    facts: Facts | None = None
    refinement: Refinement | None = None
    symmetry: Symmetry | None = None
    alignment: Alignment | None = None
    verification: Verification | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def report(self) -> Report:
        assert self.symmetry is not None and self.alignment is not None
        return Report(
            self.symmetry,
            self.alignment,
            self.verification,
            dict(self.seconds),
            self.mode_dependent,
        )


def keep(module: nn.Module, state: State) -> None:
    """Attach a state to a graph, or to a module of the user's own class."""
    _notebook(module)[META] = state


def _notebook(module: nn.Module) -> dict[str, Any]:
    return module.meta if isinstance(module, (fx.GraphModule, EagerModule)) else vars(module)


def state_of(module: nn.Module, *needs: str) -> State:
    """The state of a module in the pipeline.

    Raises:
        PassOrderError: a pass that has to come before has not been run.
    """
    state: Any = _notebook(module).get(META)
    if not isinstance(state, State):
        raise PassOrderError("this pass works on the result of Trace; run Trace first")
    made_by = {
        "facts": "Propagate",
        "symmetry": "Refine",
        "alignment": "Solve",
        "emitted": "Rewrite",
    }
    for need in needs:
        if getattr(state, need) in (None, False):
            raise PassOrderError(f"this pass needs the result of {made_by[need]}; run it first")
    return state
