"""Emit the permuted module."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import fx, nn
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from ..models.rebased import emit
from .state import keep, state_of


class Rewrite(PassBase):
    """Permute a copy of the model's parameters, and run the graph on it.

    Takes: a module whose alignment is known.
    Gives: a ``GraphModule`` with the state dict keys of the user's module, in its order; where
        there is no graph, a copy of the user's module.
    Requires: ``Solve``.
    Ensures: keys, shapes, dtypes and devices are those of the user's module.
    Cost: one copy of the parameters.

    >>> import torch
    >>> from fxrebasin.passes import Propagate, Refine, Rewrite, Solve, Trace
    >>> a, b = (torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2)) for _ in "ab")
    >>> module = Trace()(b).graph_module
    >>> steps = (Propagate((torch.zeros(1, 2),)), Refine(), Solve(to=a, progress=False), Rewrite())
    >>> for step in steps:
    ...     module = step(module).graph_module
    >>> list(module.state_dict()) == list(b.state_dict())
    True
    """

    def requires(self, graph_module: fx.GraphModule) -> None:
        state_of(graph_module, "alignment")

    def call(self, graph_module: fx.GraphModule) -> PassResult:
        state = state_of(graph_module, "alignment")
        assert state.alignment is not None
        emitted = state.alignment.permutation.apply_to(state.model)
        if isinstance(graph_module, fx.GraphModule):
            emitted = emit(emitted, graph_module)
            emitted.graph.lint()
        _check_stored(state.model, emitted)
        keep(emitted, replace(state, emitted=True))
        return PassResult(emitted, True)


def _check_stored(model: nn.Module, emitted: nn.Module) -> None:
    expected, found = (
        {k: v for k, v in m.state_dict().items() if isinstance(v, torch.Tensor)}
        for m in (model, emitted)
    )
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].shape == tensor.shape, name
        assert found[name].dtype == tensor.dtype, name
        assert found[name].device == tensor.device, name
