"""From a module to an fx graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from ..graph_module import META
from ..report import State
from ..tracing import is_mode_dependent, trace
from ..validation import check_parameters


class Trace(PassBase):
    """Trace a module symbolically.

    Takes: an ``nn.Module``, or a ``GraphModule``; example inputs, if it has optional ones.
    Gives: a ``GraphModule`` that shares its parameters; the module itself is not touched.
    Requires: finite, dense parameters on one device.
    Ensures: the graph is well formed.
    Cost: runs Python's forward once on proxies; a tenth of a second for most models.

    >>> import torch
    >>> from fxrebasin.passes import Trace
    >>> Trace()(torch.nn.Linear(2, 3)).graph_module.graph.find_nodes(op="output")[0].name
    'output'
    """

    def __init__(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> None:
        self.args = tuple(args)
        self.kwargs = dict(kwargs or {})

    def requires(self, graph_module: nn.Module) -> None:
        check_parameters(graph_module)

    def call(self, graph_module: nn.Module) -> PassResult:
        traced = trace(graph_module, self.args, self.kwargs)
        traced.graph.lint()
        dependent = is_mode_dependent(graph_module, traced, self.args, self.kwargs)
        traced.meta[META] = State(graph_module, dependent)
        return PassResult(traced, True)
