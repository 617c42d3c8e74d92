"""From units to blocks."""

from __future__ import annotations

from dataclasses import replace

from torch import fx
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from ..refinement.build import build_symmetry
from ..symmetry.contract import check
from .state import state_of


class Refine(PassBase):
    """Find the symmetry group: blocks of units that can be permuted freely.

    Takes: a module whose units were propagated.
    Gives: the same module; its ``Symmetry`` in its state.
    Requires: ``Propagate``.
    Ensures: every parameter is a union of complete products of blocks, parents before children.
    Cost: proportional to the number of units and constraints; a fraction of a second.

    >>> import torch
    >>> from fxrebasin.passes import Propagate, Refine, Trace
    >>> from fxrebasin.passes.state import state_of
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))
    >>> module = Propagate((torch.zeros(1, 2),))(Trace()(net).graph_module).graph_module
    >>> state_of(Refine()(module).graph_module).symmetry.movable_units
    3
    """

    def requires(self, graph_module: fx.GraphModule) -> None:
        state_of(graph_module, "facts")

    def call(self, graph_module: fx.GraphModule) -> PassResult:
        state = state_of(graph_module, "facts")
        assert state.facts is not None
        state.refinement = build_symmetry(state.facts)
        found = state.refinement.symmetry
        notes = (*state.notes, *found.notes)
        state.symmetry = replace(found, front_end=state.front_end, notes=notes)
        return PassResult(graph_module, False)

    def ensures(self, graph_module: fx.GraphModule) -> None:
        state = state_of(graph_module, "symmetry")
        assert state.symmetry is not None
        check(state.symmetry)
