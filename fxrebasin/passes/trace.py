"""From a module to an fx graph, or to something that can be run in its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import fx, nn
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from ..models.validation import check_parameters
from ..rules.registry import RuleBook, rule_book
from ..tracing.front_ends import FRONT_ENDS, FrontEnd, as_module, trace_by_first
from .state import State, keep


class Trace(PassBase):
    """Trace a module, with the first front end that can.

    Takes: an ``nn.Module``, a ``GraphModule`` or an ``ExportedProgram``; example inputs, without
        which only ``symbolic_trace`` is tried.
    Gives: a ``GraphModule`` that shares its parameters, or, where no graph can be had, a module
        that runs the model eagerly; the module itself is not touched.
    Requires: finite, dense parameters on one device.
    Ensures: the graph is well formed.
    Cost: a tenth of a second for most models with ``symbolic_trace``, some seconds with ``export``.

    >>> import torch
    >>> from fxrebasin.passes import Trace
    >>> Trace()(torch.nn.Linear(2, 3)).graph_module.graph.find_nodes(op="output")[0].name
    'output'
    """

    def __init__(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        rules: RuleBook | None = None,
        front_ends: Sequence[FrontEnd] = FRONT_ENDS,
    ) -> None:
        self.args = tuple(args)
        self.kwargs = dict(kwargs or {})
        self.rules = rules or rule_book()
        has_inputs = bool(self.args or self.kwargs)
        self.front_ends = tuple(front_ends) if has_inputs else tuple(front_ends)[:1]

    def requires(self, graph_module: nn.Module) -> None:
        check_parameters(as_module(graph_module))

    def call(self, graph_module: nn.Module) -> PassResult:
        model = as_module(graph_module)
        traced, failures = trace_by_first(
            self.front_ends, model, self.args, self.kwargs, self.rules
        )
        if isinstance(traced.module, fx.GraphModule):
            traced.module.graph.lint()
        notes = tuple(
            f"{front_end} cannot trace it: {reason.splitlines()[0]}"
            for front_end, reason in failures.items()
        )
        state = State(model, traced.mode_dependent, traced.front_end, notes=notes, rules=self.rules)
        keep(traced.module, state)
        return PassResult(traced.module, True)
