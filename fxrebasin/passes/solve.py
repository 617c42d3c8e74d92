"""Align the weights with those of another model."""

from __future__ import annotations

import torch
from torch import fx, nn
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from ..matching.progress import Callback
from ..matching.schedules import Order, random_order
from ..matching.search import Budget
from ..matching.solve import weight_matching
from ..models.validation import check_parameters, check_same_architecture
from ..symmetry.permutation import Permutation
from .state import state_of


class Solve(PassBase):
    """Find the permutation that brings the module closest to a reference.

    Takes: a module whose symmetry is known, and the reference.
    Gives: the same module; its ``Alignment`` in its state.
    Requires: ``Refine``; a reference of the same architecture.
    Ensures: the objective is not lower than before, or than at ``start``.
    Cost: per sweep one matrix product and one linear assignment problem per block that has not
    settled; a budget multiplies that.

    >>> import torch
    >>> from fxrebasin.passes import Propagate, Refine, Solve, Trace
    >>> a, b = (torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2)) for _ in "ab")
    >>> module = Trace()(b).graph_module
    >>> for step in (Propagate((torch.zeros(1, 2),)), Refine(), Solve(to=a, progress=False)):
    ...     module = step(module).graph_module
    """

    def __init__(
        self,
        *,
        to: nn.Module,
        seed: int = 0,
        max_sweeps: int = 100,
        order: Order = random_order,
        budget: Budget | None = None,
        start: Permutation | None = None,
        vector_weight: float = 1.0,
        callback: Callback | None = None,
        device: torch.device | str | None = None,
        progress: bool = True,
    ) -> None:
        self.to = to
        self.seed = seed
        self.max_sweeps = max_sweeps
        self.order = order
        self.budget = budget
        self.start = start
        self.vector_weight = vector_weight
        self.callback = callback
        self.device = device
        self.progress = progress

    def requires(self, graph_module: fx.GraphModule) -> None:
        state = state_of(graph_module, "symmetry")
        check_parameters(self.to, "the reference model A")
        check_same_architecture(state.model, self.to)

    def call(self, graph_module: fx.GraphModule) -> PassResult:
        state = state_of(graph_module, "symmetry")
        assert state.symmetry is not None
        state.alignment = weight_matching(
            state.symmetry,
            state.model.state_dict(),
            to=self.to.state_dict(),
            seed=self.seed,
            max_sweeps=self.max_sweeps,
            order=self.order,
            budget=self.budget,
            start=self.start,
            vector_weight=self.vector_weight,
            callback=self.callback,
            device=self.device,
            progress=self.progress,
        )
        return PassResult(graph_module, False)

    def ensures(self, graph_module: fx.GraphModule) -> None:
        alignment = state_of(graph_module, "alignment").alignment
        assert alignment is not None
        if self.start is None:
            assert alignment.objective_after >= alignment.objective_before
