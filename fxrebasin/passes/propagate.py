"""Run the graph on units."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import fx, nn
from torch.fx.passes.infra.pass_base import PassResult

from ..arguments import check_flag
from ..errors import UntouchedWarning
from ..layouts.facts import Facts
from ..propagation.constraints import Constraint, check_constraints
from ..propagation.interpreter import Example, propagate
from ..propagation.movable import Movable, check_movable
from ..propagation.stored import find_stored
from ..tracing.front_ends import Traced, run_or_retrace
from .base import Pass
from .state import State, as_examples, as_inputs, keep, leaves_of, state_of


class Propagate(Pass):
    """Find which axes are bound to which.

    Takes: a traced module, and example inputs unless a pass before had them.
    Gives: the same module, or, where that does not run on the inputs though the model does, one
        that the next front end made; units and constraint graph in its state.
    Requires: ``Trace``.
    Ensures: every parameter and buffer has units along its axes, under all its names.
    Cost: one forward pass, and a tenth of a millisecond to a millisecond per op.

    >>> import torch
    >>> from fxrebasin.passes import Propagate, Trace
    >>> module = Trace((torch.zeros(1, 2),))(torch.nn.Linear(2, 3)).graph_module
    >>> Propagate()(module).modified
    False
    """

    def __init__(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        constraints: Sequence[Constraint] = (),
        free_outputs: bool = False,
        examples: Sequence[Any] = (),
        movable: Movable = (),
    ) -> None:
        self.inputs = as_inputs(args, kwargs)
        check_constraints(constraints)
        check_flag(free_outputs, "free_outputs")
        check_movable(movable)
        self.constraints = tuple(constraints)
        self.free_outputs = free_outputs
        self.examples = as_examples(examples)
        self.movable = movable

    def requires(self, graph_module: nn.Module) -> None:
        state_of(graph_module)

    def call(self, graph_module: nn.Module) -> PassResult:
        state = state_of(graph_module)
        args, kwargs = state.inputs_for("Propagate", self.inputs)

        more = [Example(*inputs) for inputs in self.examples]

        def run_on_units(module: Any) -> Facts:
            return propagate(
                module,
                state.model,
                args,
                kwargs,
                rules=state.rules,
                constraints=self.constraints,
                free_outputs=self.free_outputs,
                more=more,
                movable=self.movable,
            )

        given, leaves = Traced(graph_module, state.origin), leaves_of(state.rules)
        traced, state.facts = run_or_retrace(given, state.model, args, kwargs, leaves, run_on_units)
        assert state.facts is not None
        if state.facts.untouched() and not isinstance(state.model, fx.GraphModule):
            more.append(Example(args, kwargs, training=True))
            try:
                both = run_on_units(traced.module)
            except Exception:  # in training it wants other inputs, or what training prepares
                both = state.facts
            if len(both.untouched()) < len(state.facts.untouched()):
                state.facts = both
        state.origin = traced.origin
        self._tell(state, len(self.examples))
        keep(traced.module, state)
        return PassResult(traced.module, traced is not given)

    def _tell(self, state: State, examples: int) -> None:
        """Say what the answer holds for, and which parameters nothing that was run has met."""
        assert state.facts is not None
        notes = list(state.origin.notes)
        if examples:
            notes.append(f"holds for {examples + 1} example inputs together")
        if state.facts.runs > 1 + examples:
            notes.append("holds for the path of training as well, which uses more parameters")
        state.origin = replace(state.origin, notes=tuple(notes))
        untouched = state.facts.untouched()
        if untouched:
            shown = ", ".join(untouched[:3]) + (", ..." if len(untouched) > 3 else "")
            warnings.warn(
                f"{len(untouched)} parameters are not used on the example inputs and stay as they "
                f"are: {shown}; if other inputs use them, pass some by examples=",
                UntouchedWarning,
                stacklevel=2,
            )

    def ensures(self, graph_module: nn.Module) -> None:
        state = state_of(graph_module, "facts")
        assert state.facts is not None
        stored = find_stored(state.model)
        parameters = state.facts.parameters
        assert [p.names for p in parameters] == [tuple(s.names) for s in stored]
        for one, parameter in zip(stored, parameters, strict=True):
            assert parameter.shape == tuple(one.tensor.shape), parameter.name
            for coordinate in parameter.coordinates:
                spanned = zip(coordinate.shape, parameter.shape, strict=True)
                assert all(n in (1, size) for n, size in spanned), parameter.name
