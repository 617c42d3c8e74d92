"""From units to blocks."""

from __future__ import annotations

from dataclasses import replace

from torch import nn
from torch.fx.passes.infra.pass_base import PassResult

from ..kinds.discover import with_kinds
from ..refinement.build import build_symmetry
from ..symmetry.contract import check
from .base import Pass
from .state import state_of


class Refine(Pass):
    """Find the symmetry group: blocks of units that can be permuted freely.

    Takes: a module whose units were propagated.
    Gives: the same module; its ``Symmetry`` in its state.
    Requires: ``Propagate``.
    Ensures: every parameter is a union of complete products of blocks, parents before children.
    Cost: proportional to the number of units and constraints; a fraction of a second.

    >>> import torch
    >>> from fxrebasin.passes import Propagate, Refine, Trace
    >>> from fxrebasin.passes.state import state_of
    >>> module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))
    >>> for step in (Trace((torch.zeros(1, 2),)), Propagate(), Refine()):
    ...     module = step(module).graph_module
    >>> state_of(module).symmetry.movable_units
    3
    """

    def requires(self, graph_module: nn.Module) -> None:
        state_of(graph_module, "facts")

    def call(self, graph_module: nn.Module) -> PassResult:
        state = state_of(graph_module, "facts")
        assert state.facts is not None
        state.refinement = build_symmetry(state.facts)
        found = state.refinement.symmetry
        notes = (*state.origin.notes, *found.notes)
        found = replace(found, front_end=state.origin.front_end, notes=notes)
        state.symmetry = with_kinds(found, state.facts, state.refinement)
        return PassResult(graph_module, False)

    def ensures(self, graph_module: nn.Module) -> None:
        state = state_of(graph_module, "symmetry")
        assert state.symmetry is not None
        check(state.symmetry)
