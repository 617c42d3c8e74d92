"""Put the symmetry group to the test."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import fx
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from ..errors import RefutedWarning
from ..refinement.build import build_symmetry, pin_blocks
from ..verification.falsification import offenders, trials
from .state import State, state_of

ROUNDS = 8
"""How often blocks are pinned before all are."""


class Falsify(PassBase):
    """Apply generators of the group to the model with random weights, and pin what fails.

    Takes: a module whose symmetry is known, and example inputs.
    Gives: the same module; a ``Symmetry`` in its state that no generator refutes.
    Requires: ``Refine``.
    Ensures: the outputs agree within the tolerance of their dtype.
    Cost: three forward passes, in float64 for small models; more only where something fails.

    >>> import torch
    >>> from fxrebasin.passes import Falsify, Propagate, Refine, Trace
    >>> from fxrebasin.passes.state import state_of
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))
    >>> x, module = torch.zeros(1, 2), Trace()(net).graph_module
    >>> for step in (Propagate((x,)), Refine(), Falsify((x,))):
    ...     module = step(module).graph_module
    >>> state_of(module).symmetry.movable_units
    3
    """

    def __init__(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        seed: int = 0,
    ) -> None:
        self.args = tuple(args)
        self.kwargs = dict(kwargs or {})
        self.seed = seed

    def requires(self, graph_module: fx.GraphModule) -> None:
        state_of(graph_module, "symmetry")

    def call(self, graph_module: fx.GraphModule) -> PassResult:
        state = state_of(graph_module, "symmetry")
        found = state.facts
        assert state.symmetry is not None and found is not None
        if not state.symmetry.blocks:
            return PassResult(graph_module, False)
        ways = trials(
            state.model,
            self.args,
            self.kwargs,
            random_weights=not found.values_read,
            seed=self.seed,
        )
        if not ways:
            _note(state, "the model does not run with other weights: the group was not tested")
        refuted: list[str] = []
        for attempt in range(ROUNDS + 1):
            blocks = offenders(state.symmetry, ways, seed=self.seed + attempt)
            if not blocks:
                break
            if attempt == ROUNDS:
                blocks = list(state.symmetry)
            refuted += [block.name for block in blocks]
            assert state.refinement is not None
            pin_blocks(found.units, state.refinement, [block.name for block in blocks])
            state.refinement = build_symmetry(found)
            state.symmetry = replace(
                state.refinement.symmetry,
                front_end=state.symmetry.front_end,
                notes=state.symmetry.notes,
            )
        if refuted:
            shown = ", ".join(refuted[:3])
            problem = f"{len(refuted)} blocks were refuted by a test and pinned: {shown}"
            warnings.warn(f"{problem}; please report this model", RefutedWarning, stacklevel=2)
            _note(state, problem)
        return PassResult(graph_module, False)

    def ensures(self, graph_module: fx.GraphModule) -> None:
        state_of(graph_module, "symmetry")


def _note(state: State, text: str) -> None:
    assert state.symmetry is not None
    state.symmetry = replace(state.symmetry, notes=(*state.symmetry.notes, text))
