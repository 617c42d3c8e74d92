"""Align the weights with those of another model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial

import torch
from torch import nn
from torch.fx.passes.infra.pass_base import PassResult

from ..arguments import check_device, check_flag, check_function, check_kind, check_whole
from ..matching.alignment import Alignment, check_alignment, check_products
from ..matching.progress import Callback
from ..matching.solvers import Solver, coordinate_descent
from ..matching.transforms.groups import check_group
from ..models.validation import check_model
from ..objectives import Objective, weights
from ..objectives.streams import match_from_streams, rotated_streams
from ..symmetry.transform import Subgroup, Transform
from .base import Pass
from .state import State, state_of


class Solve(Pass):
    """Find the permutation, with signs where units have them, that brings the module closest to a
    reference.

    Takes: a module whose symmetry is known, and the reference.
    Gives: the same module; its ``Alignment`` in its state.
    Requires: ``Refine``; a reference of the same architecture; for ``group="linear"``,
        ``Canonicalise`` with the same reference.
    Ensures: the objective is not lower than before, unless it began at ``start``, or where
        activations have put it.
    Cost: that of the solver; by default, per sweep, one matrix product and one linear assignment
    problem per block that has not settled.

    >>> import torch
    >>> from fxrebasin.passes import Propagate, Refine, Solve, Trace
    >>> a, b = (torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2)) for _ in "ab")
    >>> steps = Trace((torch.zeros(1, 2),)), Propagate(), Refine(), Solve(to=a, progress=False)
    >>> for step in steps:
    ...     b = step(b).graph_module
    """

    def __init__(
        self,
        *,
        to: nn.Module,
        objective: Objective = weights,
        solver: Solver = coordinate_descent,
        group: Subgroup = "signed",
        start: Transform | None = None,
        seed: int = 0,
        callback: Callback | None = None,
        device: torch.device | str | None = None,
        progress: bool = True,
    ) -> None:
        check_model(to, "to")
        check_function(objective, "objective", "fr.objectives.weights")
        check_function(solver, "solver", "fr.solvers.coordinate_descent")
        check_group(group)
        if start is not None:
            check_kind(start, Transform, "start", "a Permutation, a Transform or None")
        check_whole(seed, "seed", least=0)
        if callback is not None:
            check_function(callback, "callback", "one that takes a Step, or None")
        check_device(device)
        check_flag(progress, "progress")
        self.to = to
        self.objective = objective
        self.solver = solver
        self.group: Subgroup = group
        self.start = start
        self.seed = seed
        self.callback = callback
        self.device = device
        self.progress = progress

    def requires(self, graph_module: nn.Module) -> None:
        state = state_of(graph_module, "symmetry")
        state.check_reference(self.to)
        state.compared_with(self.to)

    def call(self, graph_module: nn.Module) -> PassResult:
        state = state_of(graph_module, "symmetry")
        assert state.symmetry is not None
        turned = self._turned(state)
        b = state.source.state_dict()
        state.turned = turned is not None
        if turned is None:
            state.alignment = self._solve(state, b, self.start, ())
        else:
            state.alignment = match_from_streams(turned, b, partial(self._solve, state))
        return PassResult(graph_module, False)

    def _turned(self, state: State) -> Transform | None:
        """How streams are rotated by what both models compute, where that can be told."""
        if self.group != "linear" or self.start is not None or state.inputs is None:
            return None
        assert state.symmetry is not None
        reference = state.compared_with(self.to)
        return rotated_streams(
            state.symmetry, state.source, reference, *state.inputs, device=self.device
        )

    def _solve(
        self,
        state: State,
        b: Mapping[str, torch.Tensor],
        start: Transform | None,
        kept: Collection[str],
    ) -> Alignment:
        assert state.symmetry is not None
        a = state.compared_with(self.to).state_dict()
        compared = self.objective(state.symmetry, b, a, device=self.device)
        check_products(compared)
        found = self.solver(
            compared.over(self.group).keeping(kept),
            start=start,
            seed=self.seed,
            callback=self.callback,
            progress=self.progress,
        )
        check_alignment(found)
        return found

    def ensures(self, graph_module: nn.Module) -> None:
        state = state_of(graph_module, "symmetry", "alignment")
        symmetry, alignment = state.symmetry, state.alignment
        assert symmetry is not None and alignment is not None
        assert alignment.permutation.symmetry.blocks == symmetry.blocks
        if self.start is None and self.group != "linear":
            assert alignment.objective_after >= alignment.objective_before
