"""Cut out the units that the model does not need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import fx, nn
from torch.fx.passes.infra.pass_base import PassResult

from ..compaction.compact import compact_graph
from ..models.precision import TOLERANCE
from .base import Pass
from .state import as_inputs, keep, state_of


class Compact(Pass):
    """Cut units that reach no output, or are constant, out of every tensor of their block.

    Takes: a module whose symmetry is known, and example inputs unless a pass before had them.
    Gives: a ``GraphModule`` with the keys of the user's module and smaller tensors; where there is
        no graph, a copy of the user's module. What was cut, and what was not, in its state.
    Requires: ``Refine``.
    Ensures: the graph is well formed, no tensor has become larger, and outputs agree with those of
        the user's module within the tolerance of their dtype: ``Verify`` need not follow.
    Cost: that of ``Propagate``, and two forward passes per cut that is tried: one if all units that
        zeros lead to can go, else about two per block.

    >>> import torch
    >>> from fxrebasin.passes import Compact, Propagate, Refine, Trace
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
    >>> _ = net[2].weight.data[:, 1].zero_()
    >>> module = net
    >>> for step in (Trace((torch.randn(4, 2),)), Propagate(), Refine(), Compact()):
    ...     module = step(module).graph_module
    >>> tuple(module.state_dict()["0.weight"].shape)
    (2, 2)
    """

    def __init__(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None
    ) -> None:
        self.inputs = as_inputs(args, kwargs)

    def requires(self, graph_module: nn.Module) -> None:
        state_of(graph_module, "symmetry")

    def call(self, graph_module: nn.Module) -> PassResult:
        state = state_of(graph_module, "symmetry")
        args, kwargs = state.inputs_for("Compact", self.inputs)
        assert state.symmetry is not None
        emitted, found = compact_graph(
            state.model, graph_module, state.symmetry, args, kwargs, rules=state.rules
        )
        checked = found.verification
        keep(emitted, replace(state, compaction=found, verification=checked, emitted=True))
        return PassResult(emitted, True)

    def ensures(self, graph_module: nn.Module) -> None:
        state = state_of(graph_module, "emitted")
        found = state.compaction
        assert found is not None
        if isinstance(graph_module, fx.GraphModule):
            graph_module.graph.lint()
        verification = found.verification
        assert verification.error <= (verification.tolerance or TOLERANCE[verification.dtype])
        expected, left = (dict(m.named_parameters()) for m in (state.model, graph_module))
        assert list(left) == list(expected)
        for name, tensor in left.items():
            assert tensor.dtype == expected[name].dtype, name
            pairs = zip(tensor.shape, expected[name].shape, strict=True)
            assert all(n <= before for n, before in pairs), name
