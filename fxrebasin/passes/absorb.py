"""Have the weights of norms absorbed by what reads them."""

from __future__ import annotations

from torch import nn
from torch.fx.passes.infra.pass_base import PassResult

from ..canonical.canonicalise import absorbed_tensors
from ..canonical.gauge import in_gauge
from .gauging import GaugePass
from .state import state_of


class Absorb(GaugePass):
    """Set the weights of norms to one where what reads them can be multiplied by them instead.

    Takes: a module whose symmetry is known, a reference to do the same to if one is given, and
        example inputs unless a pass before had them.
    Gives: the same module; copies of the user's model and of the reference in its state, whose
        blocks of norms can be rotated. ``Solve`` and ``Rewrite`` go on with these.
    Requires: ``Refine``.
    Ensures: both compute what they did, in float64 before weights are rounded; the weights that
        are absorbed are one.
    Cost: two forward passes of each model in float64, and one copy of its weights.

    >>> import torch
    >>> from fxrebasin.passes import Absorb, Propagate, Refine, Trace
    >>> from fxrebasin.passes.state import state_of
    >>> layers = torch.nn.Linear(2, 3), torch.nn.RMSNorm(3), torch.nn.Linear(3, 2)
    >>> module = torch.nn.Sequential(*layers)
    >>> for step in (Trace((torch.randn(4, 2),)), Propagate(), Refine(), Absorb()):
    ...     module = step(module).graph_module
    >>> state_of(module).gauge.absorbed
    ('1.weight',)
    """

    def call(self, graph_module: nn.Module) -> PassResult:
        state = state_of(graph_module, "symmetry")
        assert state.symmetry is not None
        inputs = state.inputs_for("Absorb", self.inputs)
        state.gauge = in_gauge(state.symmetry, state.model, self.to, *inputs, make=absorbed_tensors)
        return PassResult(graph_module, False)
