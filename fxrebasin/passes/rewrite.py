"""Emit the permuted module."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import fx, nn
from torch.fx.passes.infra.pass_base import PassResult

from ..models.rebased import emit
from .base import Pass
from .state import keep, state_of


class Rewrite(Pass):
    """Permute a copy of the model's parameters, and run the graph on it.

    Takes: a module whose alignment is known.
    Gives: a ``GraphModule`` with the state dict keys of the user's module, in its order; where
        there is no graph, a copy of the user's module.
    Requires: ``Solve``.
    Ensures: the graph is well formed; keys, shapes, dtypes and devices are those of the user's
        module.
    Cost: one copy of the parameters.

    >>> import torch
    >>> from fxrebasin.passes import Propagate, Refine, Rewrite, Solve, Trace
    >>> a, b = (torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2)) for _ in "ab")
    >>> module, solve = b, Solve(to=a, progress=False)
    >>> for step in (Trace((torch.zeros(1, 2),)), Propagate(), Refine(), solve, Rewrite()):
    ...     module = step(module).graph_module
    >>> list(module.state_dict()) == list(b.state_dict())
    True
    """

    def requires(self, graph_module: nn.Module) -> None:
        state_of(graph_module, "alignment")

    def call(self, graph_module: nn.Module) -> PassResult:
        state = state_of(graph_module, "alignment")
        assert state.alignment is not None
        emitted = state.alignment.permutation.apply_to(state.source)
        if isinstance(graph_module, fx.GraphModule):
            emitted = emit(emitted, graph_module)
        keep(emitted, replace(state, emitted=True))
        return PassResult(emitted, True)

    def ensures(self, graph_module: nn.Module) -> None:
        model = state_of(graph_module, "emitted").model
        if isinstance(graph_module, fx.GraphModule):
            graph_module.graph.lint()
        expected, found = (
            {k: v for k, v in m.state_dict().items() if isinstance(v, torch.Tensor)}
            for m in (model, graph_module)
        )
        assert list(found) == list(expected)
        for name, tensor in expected.items():
            assert found[name].shape == tensor.shape, name
            assert found[name].dtype == tensor.dtype, name
            assert found[name].device == tensor.device, name
