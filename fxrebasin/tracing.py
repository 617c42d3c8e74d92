"""From a user's module to an fx graph, without touching the module."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import fx, nn

from .errors import InvalidInputError, TraceError

M = TypeVar("M", bound=nn.Module)


def shared_copy(model: M, *, clone_buffers: bool = False) -> M:
    """A copy of a module that shares its parameters and buffers, and nothing else.

    Some modules keep tensors that they compute in forward. Tracing the user's own module would
    leave proxies behind in them; tracing the copy does not.
    """
    memo = {id(t): t for t in model.parameters()}
    memo |= {id(t): t.clone() if clone_buffers else t for t in model.buffers()}
    return copy.deepcopy(model, memo)


def trace(model: nn.Module) -> fx.GraphModule:
    """Trace a module symbolically; a ``GraphModule`` is taken as it is.

    The result shares the parameters and buffers of ``model``.

    Raises:
        TraceError: the module cannot be traced; names the line of the user's source.
    """
    if isinstance(model, fx.GraphModule):
        return shared_copy(model)
    tracer, graph = _traced(model, training=False)
    return fx.GraphModule(tracer.root, graph, type(model).__name__)


class _Tracer(fx.Tracer):
    """Keeps buffers in the graph: what is computed from them must not be baked in."""

    proxy_buffer_attributes = True


def _traced(model: nn.Module, *, training: bool) -> tuple[fx.Tracer, fx.Graph]:
    failure: Exception | None = None
    for tracer in (_Tracer(), fx.Tracer()):  # control flow may depend on a buffer
        try:
            return tracer, tracer.trace(shared_copy(model).train(training))
        except Exception as error:
            failure = failure or error
    assert failure is not None
    raise TraceError(_explain(model, failure)) from failure


def is_mode_dependent(model: nn.Module, traced: fx.GraphModule) -> bool:
    """Would tracing in train mode give another graph, as with functional dropout?"""
    if isinstance(model, fx.GraphModule):
        return False
    try:
        _, training = _traced(model, training=True)
    except TraceError:
        return True
    return _signature(training) != _signature(traced.graph)


def _signature(graph: fx.Graph) -> list[str]:
    return [node.format_node() or node.name for node in graph.nodes]


def in_placeholder_order(
    module: fx.GraphModule, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[Any]:
    """Arrange example inputs as ``fx.Interpreter.run`` wants them.

    Raises:
        InvalidInputError: an input is missing, or there are too many.
    """
    values, rest = [], list(args)
    for node in module.graph.find_nodes(op="placeholder"):
        if rest:
            values.append(rest.pop(0))
        elif str(node.target) in kwargs:
            values.append(kwargs[str(node.target)])
        elif node.args:
            values.append(node.args[0])
        else:
            raise InvalidInputError(
                f"the model's input {node.target!r} is missing from the example inputs; "
                f"got {len(args)} positional ones and {sorted(kwargs)}"
            )
    if rest:
        raise InvalidInputError(
            f"{len(args)} example inputs were given, but the model takes {len(args) - len(rest)}"
        )
    return values


def _explain(model: nn.Module, error: Exception) -> str:
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "/torch/" not in frame.filename.replace("\\", "/") and frame.filename != __file__
    ]
    where = ""
    if frames:
        last = frames[-1]
        where = f"\n  in {last.filename}, line {last.lineno}:\n    {last.line}"
    return (
        f"{type(model).__name__} cannot be traced by torch.fx: {type(error).__name__}: {error}"
        f"{where}\nReplace control flow that depends on tensor values or shapes there, hide it in "
        "a function wrapped with torch.fx.wrap, or pass a ready torch.fx.GraphModule."
    )


@contextmanager
def unobserved(model: nn.Module) -> Iterator[None]:
    """Run a module in eval mode without gradients, leaving no trace in it or in the RNG state."""
    modes = {module: module.training for module in model.modules()}
    devices = sorted({t.device.index for t in model.parameters() if t.device.type == "cuda"})
    fast = torch.backends.mha.get_fastpath_enabled()
    model.eval()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, mode in modes.items():
            module.training = mode
