"""Put the units of every block in the order of a key."""

from __future__ import annotations

from torch import nn
from torch.fx.passes.infra.pass_base import PassResult

from ..arguments import check_function
from ..compaction.ordering import Key, sort_units
from ..compaction.unit_weights import UnitWeights
from ..models.validation import stored_tensors
from .base import Pass
from .state import state_of


class Order(Pass):
    """Find the permutation that puts the units of every block in order, greatest key first.

    Takes: a module whose symmetry is known; a key, by default the norm of what writes a unit.
    Gives: the same module; the permutation in its state, which ``Rewrite`` and ``Verify`` go on
        with.
    Requires: ``Refine``.
    Ensures: the objective, which is highest where all is in order, is not lower than before.
    Cost: the weights are read once.

    >>> import torch
    >>> from fxrebasin.passes import Order, Propagate, Refine, Rewrite, Trace, Verify
    >>> module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
    >>> find = Trace((torch.randn(4, 2),)), Propagate(), Refine()
    >>> for step in (*find, Order(), Rewrite(), Verify()):
    ...     module = step(module).graph_module
    >>> norms = module.state_dict()["0.weight"].norm(dim=1)
    >>> bool((norms.diff() <= 0).all())
    True
    """

    def __init__(self, key: Key | None = None) -> None:
        if key is not None:
            check_function(key, "key", "fr.UnitWeights.written_norm or None")
        self.key = key or UnitWeights.written_norm

    def requires(self, graph_module: nn.Module) -> None:
        state_of(graph_module, "symmetry")

    def call(self, graph_module: nn.Module) -> PassResult:
        state = state_of(graph_module, "symmetry")
        assert state.symmetry is not None
        state.alignment = sort_units(state.symmetry, stored_tensors(state.model), self.key)
        return PassResult(graph_module, False)

    def ensures(self, graph_module: nn.Module) -> None:
        found = state_of(graph_module, "symmetry", "alignment").alignment
        assert found is not None
        assert found.objective_after >= found.objective_before
