"""From a model to something that can be run on units: by the first front end that works.

1. ``torch.fx.symbolic_trace``: a graph that holds for every shape, and keeps modules;
2. ``torch.export`` (non-strict): a graph for the shapes of the example inputs;
3. eager execution: no graph, but every model that runs has one path that it takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import fx, nn

from ..errors import InvalidArgumentError, TraceError
from ..rules.registry import RuleBook
from .eager import EagerModule
from .experts import has_experts
from .export import export, from_program
from .symbolic import Leaves, is_mode_dependent, trace

FrontEnd = Literal["symbolic_trace", "export", "eager"]

FRONT_ENDS: tuple[FrontEnd, ...] = ("symbolic_trace", "export", "eager")


@dataclass(frozen=True)
class Traced:
    """What a front end made of a model."""

    module: fx.GraphModule | EagerModule
    front_end: str
    mode_dependent: bool
    """Does the graph hold the eval path of something that behaves differently in training?"""


def as_module(model: nn.Module | torch.export.ExportedProgram) -> nn.Module:
    """An ``ExportedProgram`` as a module that shares its parameters; modules as they are."""
    if isinstance(model, torch.export.ExportedProgram):
        return from_program(model, "ExportedProgram")
    if not isinstance(model, nn.Module):
        raise InvalidArgumentError(
            f"expected a torch.nn.Module, a GraphModule or an ExportedProgram as model, "
            f"found {type(model).__name__}"
        )
    return model


def trace_with(
    front_end: FrontEnd,
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    rules: RuleBook,
) -> Traced:
    """Trace a model with one front end.

    Raises:
        TraceError: this front end cannot trace it.
    """
    if isinstance(model, fx.GraphModule):
        return Traced(trace(model), "given graph", False)
    if front_end == "symbolic_trace":
        leaves = Leaves(rules.modules, rules.functions)
        module = trace(model, args, kwargs, leaves)
        return Traced(module, front_end, is_mode_dependent(model, module, args, kwargs, leaves))
    if front_end == "export":
        if rules.modules or rules.functions or rules.methods:
            raise TraceError(
                "torch.export looks into functions and modules that have rules of their own"
            )
        if has_experts(model):
            raise TraceError("torch.export keeps no experts apart, only one kernel that runs them")
        return Traced(export(model, args, kwargs), front_end, True)
    return Traced(EagerModule(model), front_end, False)


def trace_by_first(
    front_ends: Sequence[FrontEnd],
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    rules: RuleBook,
) -> tuple[Traced, dict[FrontEnd, str]]:
    """Trace a model with the first front end that can, and say why the ones before it cannot.

    Raises:
        TraceError: none of them can.
    """
    failures: dict[FrontEnd, str] = {}
    failure: BaseException | None = None
    for front_end in front_ends:
        try:
            return trace_with(front_end, model, args, kwargs, rules), failures
        except TraceError as error:
            failures[front_end], failure = str(error), error.__cause__ or error
    advice = (
        "Pass example inputs to have torch.export and eager execution tried as well, hide the code "
        "in a function wrapped with torch.fx.wrap, or pass a ready torch.fx.GraphModule."
    )
    raise TraceError("\n".join([*failures.values(), advice])) from failure
