"""Put the symmetry group to the test."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn
from torch.fx.passes.infra.pass_base import PassResult

from ..arguments import check_whole
from ..errors import RefutedWarning
from ..kinds.discover import with_kinds
from ..refinement.build import build_symmetry, pin_blocks
from ..symmetry.contract import check
from ..symmetry.group import Symmetry
from ..verification.falsification import falsify
from .base import Pass
from .state import as_inputs, state_of


class Falsify(Pass):
    """Apply generators of the group to the model with random weights, and pin what fails.

    Where units may change their signs, they do so in the same runs.

    Takes: a module whose symmetry is known, and example inputs unless a pass before had them.
    Gives: the same module; a ``Symmetry`` in its state that no generator refutes.
    Requires: ``Refine``.
    Ensures: the symmetry in the state is the one that passed the test, or that a note says could
        not be tested.
    Cost: three forward passes, and two on inputs of other sizes where the model takes any, in
        float64 for small models; drawing and moving all weights once. More only where something
        fails.

    >>> import torch
    >>> from fxrebasin.passes import Falsify, Propagate, Refine, Trace
    >>> from fxrebasin.passes.state import state_of
    >>> module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))
    >>> for step in (Trace((torch.zeros(1, 2),)), Propagate(), Refine(), Falsify()):
    ...     module = step(module).graph_module
    >>> state_of(module).symmetry.movable_units
    3
    """

    def __init__(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        seed: int = 0,
    ) -> None:
        self.inputs = as_inputs(args, kwargs)
        check_whole(seed, "seed", least=0)
        self.seed = seed

    def requires(self, graph_module: nn.Module) -> None:
        state_of(graph_module, "facts", "symmetry")

    def call(self, graph_module: nn.Module) -> PassResult:
        state = state_of(graph_module, "facts", "symmetry")
        args, kwargs = state.inputs_for("Falsify", self.inputs)
        facts, claimed = state.facts, state.symmetry
        assert facts is not None and claimed is not None

        def pin(names: Sequence[str]) -> Symmetry:
            assert state.refinement is not None
            pin_blocks(facts.units, state.refinement, names)
            state.refinement = build_symmetry(facts)
            return with_kinds(state.refinement.symmetry, facts, state.refinement)

        found = falsify(
            claimed,
            pin,
            state.model,
            args,
            kwargs,
            random_weights=not facts.values_read,
            seed=self.seed,
        )
        notes = list(claimed.notes)
        if not found.was_tested:
            notes.append("the model does not run with other weights: the group was not tested")
        if found.only_here:
            shown = ", ".join(found.only_here[:3])
            problem = (
                f"{len(found.only_here)} blocks hold for the sizes of the example inputs only and "
                f"were pinned: {shown}; give inputs of other sizes too, by examples="
            )
            warnings.warn(problem, RefutedWarning, stacklevel=2)
            notes.append(problem)
        if found.refuted:
            shown = ", ".join(found.refuted[:3])
            problem = f"{len(found.refuted)} blocks were refuted by a test and pinned: {shown}"
            warnings.warn(f"{problem}; please report this model", RefutedWarning, stacklevel=2)
            notes.append(problem)
        if found.unsigned:
            problem = "changes of sign were refuted by a test and are left out"
            warnings.warn(f"{problem}; please report this model", RefutedWarning, stacklevel=2)
            notes.append(problem)
        state.falsification = found
        state.symmetry = replace(
            found.symmetry,
            front_end=claimed.front_end,
            notes=tuple(notes),
            tested_at=found.sizes,
        )
        return PassResult(graph_module, False)

    def ensures(self, graph_module: nn.Module) -> None:
        state = state_of(graph_module, "symmetry")
        assert state.symmetry is not None and state.falsification is not None
        assert state.symmetry.blocks is state.falsification.symmetry.blocks
        if (
            state.falsification.refuted or state.falsification.only_here
        ):  # else it is the group that Refine has checked
            check(state.symmetry)
