"""From a module to an fx graph, or to something that can be run in its place."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import fx, nn
from torch.fx.passes.infra.pass_base import PassResult

from ..arguments import check_choices, check_kind
from ..models.validation import check_model, check_parameters, check_same_architecture
from ..rules.registry import RuleBook, rule_book
from ..tracing.eager import EagerModule
from ..tracing.front_ends import FRONT_ENDS, FrontEnd, as_module, trace_by_first
from ..tracing.lifted import Parameters, bind
from .base import Pass
from .state import Inputs, State, as_inputs, keep, leaves_of, state_of


class Trace(Pass):
    """Trace a module, with the first front end that can.

    Takes: an ``nn.Module``, a ``GraphModule`` or an ``ExportedProgram``; example inputs, without
        which only ``symbolic_trace`` is tried; ``parameters``, as in :func:`fxrebasin.analyze`, of
        a graph whose weights are inputs; if there is one, the reference to align with, so that
        what is wrong with it is found before anything is done.
    Gives: a ``GraphModule`` that shares its parameters, or, where no graph can be had, a module
        that runs the model eagerly; the module itself is not touched. Example inputs travel in
        the state: the passes that follow need not be given them again.
    Requires: finite, dense parameters on one device; a reference of the same architecture.
    Ensures: the graph is well formed, and its parameters are the model's own. Whether it runs is
        seen by ``Propagate``, which has the next front end trace if it does not.
    Cost: a tenth of a second for most models with ``symbolic_trace``, some seconds with ``export``;
        the weights are read once.

    >>> import torch
    >>> from fxrebasin.passes import Trace
    >>> Trace()(torch.nn.Linear(2, 3)).graph_module.graph.find_nodes(op="output")[0].name
    'output'
    """

    def __init__(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        rules: RuleBook | None = None,
        front_ends: Sequence[FrontEnd] = FRONT_ENDS,
        reference: nn.Module | None = None,
        parameters: Parameters | None = None,
    ) -> None:
        self.inputs = as_inputs(args, kwargs)
        if rules is not None:
            check_kind(rules, RuleBook, "rules", "a RuleBook or None", "give rule_book({op: rule})")
        check_choices(front_ends, FRONT_ENDS, "front_ends")
        if reference is not None:
            check_model(reference, "reference")
        self.rules = rules or rule_book()
        self.front_ends = tuple(front_ends)
        self.reference = reference
        self.parameters = parameters

    def on(self, args: Sequence[Any], parameters: Parameters) -> Trace:
        """The same pass for a graph whose weights are inputs, if it was given no inputs itself."""
        if self.inputs is not None or self.parameters is not None:
            return self
        other = copy.copy(self)
        other.inputs, other.parameters = (tuple(args), {}), parameters
        return other

    def requires(self, graph_module: nn.Module) -> None:
        model, _ = self._bound(graph_module)
        if self.reference is None:
            check_parameters(model)
        else:
            check_parameters(model, "model B")
            check_parameters(self.reference, "the reference model A")
            is_part = self.parameters is not None
            check_same_architecture(model, self.reference, is_part=is_part)

    def call(self, graph_module: nn.Module) -> PassResult:
        model, inputs = self._bound(graph_module)
        args, kwargs = inputs or ((), {})
        possible = len(self.front_ends) if args or kwargs else 1
        traced = trace_by_first(
            self.front_ends[:possible],
            model,
            args,
            kwargs,
            leaves_of(self.rules),
            later=self.front_ends[possible:],
        )
        state = State(
            model,
            traced.origin,
            self.rules,
            inputs,
            self.reference,
            is_part=self.parameters is not None,
        )
        keep(traced.module, state)
        return PassResult(traced.module, True)

    def _bound(self, graph_module: nn.Module) -> tuple[nn.Module, Inputs | None]:
        """The model with its weights, and the example inputs that are left for it."""
        if self.parameters is None:
            return as_module(graph_module), self.inputs
        args, kwargs = self.inputs or ((), {})
        bound, left = bind(graph_module, args, self.parameters)
        return bound, (left, kwargs)

    def ensures(self, graph_module: nn.Module) -> None:
        model = state_of(graph_module).model
        if isinstance(graph_module, fx.GraphModule):
            graph_module.graph.lint()
        traced = graph_module.model if isinstance(graph_module, EagerModule) else graph_module
        own = dict(model.named_parameters(remove_duplicate=False))
        for name, parameter in traced.named_parameters():
            assert own.get(name, parameter) is parameter, f"{name} was copied"
