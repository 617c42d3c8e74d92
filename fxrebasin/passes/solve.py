"""Align the weights with those of another model."""

from __future__ import annotations

import torch
from torch import nn
from torch.fx.passes.infra.pass_base import PassResult

from ..arguments import check_device, check_flag, check_function, check_kind, check_whole
from ..matching.alignment import check_alignment, check_products
from ..matching.progress import Callback
from ..matching.solvers import Solver, coordinate_descent
from ..matching.transforms.groups import check_group
from ..models.validation import check_model
from ..objectives import Objective, weights
from ..symmetry.transform import Subgroup, Transform
from .base import Pass
from .state import state_of


class Solve(Pass):
    """Find the permutation, with signs where units have them, that brings the module closest to a
    reference.

    Takes: a module whose symmetry is known, and the reference.
    Gives: the same module; its ``Alignment`` in its state.
    Requires: ``Refine``; a reference of the same architecture.
    Ensures: the objective is not lower than before, unless it began at ``start``.
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
        compared = self.objective(
            state.symmetry,
            state.source.state_dict(),
            state.compared_with(self.to).state_dict(),
            device=self.device,
        )
        check_products(compared)
        found = self.solver(
            compared.over(self.group),
            start=self.start,
            seed=self.seed,
            callback=self.callback,
            progress=self.progress,
        )
        check_alignment(found)
        state.alignment = found
        return PassResult(graph_module, False)

    def ensures(self, graph_module: nn.Module) -> None:
        state = state_of(graph_module, "symmetry", "alignment")
        symmetry, alignment = state.symmetry, state.alignment
        assert symmetry is not None and alignment is not None
        assert alignment.permutation.symmetry.blocks == symmetry.blocks
        if self.start is None:
            assert alignment.objective_after >= alignment.objective_before
