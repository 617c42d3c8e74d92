"""From a model to something that can be run on units: by the first front end that works.

1. ``torch.fx.symbolic_trace``: a graph that holds for every shape, and keeps modules;
2. ``torch.export`` (non-strict): a graph for the shapes of the example inputs;
3. eager execution: no graph, but every model that runs has one path that it takes.

A front end works if it gives a graph and that graph runs. The second is found out when the graph
is first used for something (``run_or_retrace``): a run of its own would cost a forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import torch
from torch import fx, nn

from ..errors import InvalidArgumentError, InvalidInputError, TraceError
from ..models.copying import deep_copy
from ..models.running import run
from .eager import EagerModule
from .experts import has_experts
from .export import export, from_program
from .kept import find_kept
from .symbolic import Leaves, is_mode_dependent, trace

FrontEnd = Literal["symbolic_trace", "export", "eager"]

FRONT_ENDS: tuple[FrontEnd, ...] = ("symbolic_trace", "export", "eager")

T = TypeVar("T")


@dataclass(frozen=True)
class Origin:
    """Which front end made a graph, and what else was or could be tried."""

    front_end: str = ""
    mode_dependent: bool = False
    """Does the graph hold the eval path of something that behaves differently in training?"""
    notes: tuple[str, ...] = ()
    """Why the front ends before this one do not work."""
    untried: tuple[FrontEnd, ...] = ()
    """The front ends after this one."""


@dataclass(frozen=True)
class Traced:
    """What a front end made of a model."""

    module: nn.Module
    """A ``GraphModule``, or an ``EagerModule`` that runs the model as it is."""
    origin: Origin


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


def trace_by_first(
    front_ends: Sequence[FrontEnd],
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    leaves: Leaves,
    *,
    later: Sequence[FrontEnd] = (),
) -> Traced:
    """Trace a model with the first front end that can, and say why the ones before it cannot.

    Args:
        front_ends: which to try, in order.
        model: any module; a ``GraphModule`` is taken as it is.
        args, kwargs: example inputs, none if they are not known yet.
        leaves: what is not to be looked into.
        later: front ends that cannot be tried before example inputs are known.

    Raises:
        TraceError: none of them can.
    """
    if isinstance(model, fx.GraphModule):
        return Traced(trace(model), Origin("given graph"))
    failures: dict[FrontEnd, str] = {}
    failure: BaseException | None = None
    kept = find_kept(model, args, kwargs) if set(front_ends) - {"eager"} else ""
    for k, front_end in enumerate(front_ends):
        try:
            if kept and front_end != "eager":
                raise TraceError(f"forward changes {kept}, which a graph of {front_end} would not")
            module, mode_dependent = _trace_with(front_end, model, args, kwargs, leaves)
        except TraceError as error:
            failures[front_end], failure = str(error), error.__cause__ or error
            continue
        notes = (f"{f} cannot trace it: {reason.splitlines()[0]}" for f, reason in failures.items())
        origin = Origin(front_end, mode_dependent, tuple(notes), (*front_ends[k + 1 :], *later))
        return Traced(module, origin)
    advice = (
        "Pass example inputs to have torch.export and eager execution tried as well, hide the code "
        "in a function wrapped with torch.fx.wrap, or pass a ready torch.fx.GraphModule."
    )
    raise TraceError("\n".join([*failures.values(), advice])) from failure


def _trace_with(
    front_end: FrontEnd,
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    leaves: Leaves,
) -> tuple[nn.Module, bool]:
    """What one front end makes of a model, and whether that depends on the mode.

    Raises:
        TraceError: this front end cannot trace it.
    """
    if front_end != "eager" and isinstance(model, torch.jit.ScriptModule):
        raise TraceError(f"TorchScript has compiled it, and {front_end} needs Python code")
    if front_end == "symbolic_trace":
        graph = trace(model, args, kwargs, leaves)
        return graph, is_mode_dependent(model, graph, args, kwargs, leaves)
    if front_end == "export":
        if leaves.modules or leaves.functions or leaves.methods:
            raise TraceError(
                "torch.export looks into functions and modules that have rules of their own"
            )
        if has_experts(model):
            raise TraceError("torch.export keeps no experts apart, only one kernel that runs them")
        return export(model, args, kwargs), True
    return EagerModule(model), False


def run_or_retrace(
    traced: Traced,
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    leaves: Leaves,
    use: Callable[[Any], T],
) -> tuple[Traced, T]:
    """Use a graph; where it does not run, though the model does, have other front ends make one.

    Args:
        traced: of the model, by the first front end that could trace it.
        model, args, kwargs, leaves: as for :func:`trace_by_first`.
        use: runs the graph that it is given on the example inputs; raises
            :class:`InvalidInputError` where it does not run.

    Returns:
        The graph that runs, and what ``use`` gave for it.

    Raises:
        InvalidInputError: the model does not run on the example inputs.
    """
    while True:
        try:
            return traced, use(traced.module)
        except InvalidInputError as error:
            origin = traced.origin
            if not origin.untried or not _runs(model, args, kwargs):
                raise
            note = f"{origin.front_end} gives a graph that does not run: {error}"
            retraced = trace_by_first(origin.untried, model, args, kwargs, leaves)
            notes = (*origin.notes, note, *retraced.origin.notes)
            traced = replace(retraced, origin=replace(retraced.origin, notes=notes))


def _runs(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    try:
        run(deep_copy(model), args, kwargs)
    except Exception:
        return False
    return True
