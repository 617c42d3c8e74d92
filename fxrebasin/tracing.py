"""From a user's module to an fx graph, without touching the module."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import fx, nn

from .errors import TraceError


def shared_copy(model: nn.Module) -> nn.Module:
    """A copy of a module that shares its parameters and buffers, and nothing else.

    Some modules keep tensors that they compute in forward. Tracing the user's own module would
    leave proxies behind in them; tracing the copy does not.
    """
    tensors = [*model.parameters(), *model.buffers()]
    memo = {id(t): t for t in tensors}
    return copy.deepcopy(model, memo)


def trace(model: nn.Module) -> fx.GraphModule:
    """Trace a module symbolically; a ``GraphModule`` is taken as it is.

    The result shares the parameters and buffers of ``model``.

    Raises:
        TraceError: the module cannot be traced; names the line of the user's source.
    """
    if isinstance(model, fx.GraphModule):
        return shared_copy(model)  # type: ignore[return-value]
    shared = shared_copy(model)
    tracer = fx.Tracer()
    try:
        graph = tracer.trace(shared)
    except Exception as error:
        raise TraceError(_explain(model, error)) from error
    return fx.GraphModule(tracer.root, graph, type(model).__name__)


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
        f"{where}\nReplace control flow that depends on tensor values or shapes there, hide it in a "
        "function wrapped with torch.fx.wrap, or pass a ready torch.fx.GraphModule."
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
