"""From a user's module to an fx graph, without touching the module."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from ..errors import TraceError
from ..models.copying import forget_caches, set_modes, shared_copy
from ..models.exclusive import exclusive
from ..models.randomness import SEED
from ..models.running import unobserved
from ..models.state import is_equal

TORCH = Path(torch.__file__).parent
OURS = Path(__file__).parents[1]

TRACED = SEED + 1
"""Not that of runs: what tracing bakes in must not come out right by chance."""


@dataclass(frozen=True)
class Leaves:
    """What is not looked into while tracing: modules of these types, these functions, and methods
    of tensors by their names."""

    modules: tuple[type[nn.Module], ...] = ()
    functions: tuple[Callable[..., Any], ...] = ()
    methods: tuple[str, ...] = ()


def trace(
    model: nn.Module,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    leaves: Leaves | None = None,
) -> fx.GraphModule:
    """Trace a module symbolically; a ``GraphModule`` is taken as it is.

    The result shares the parameters and buffers of ``model``. Optional inputs that the example
    inputs leave out are traced as left out.

    Raises:
        TraceError: the module cannot be traced; names the line of the user's source.
    """
    if isinstance(model, fx.GraphModule):
        return shared_copy(model)
    absent = _absent_inputs(model, args, kwargs)
    tracer, graph = _trace_in_mode(model, absent, leaves or Leaves(), training=False)
    for node in graph.find_nodes(op="placeholder"):
        name = str(node.target).rpartition("_")[0]
        if name in absent:  # fx numbers the inputs that it is told the values of
            node.target = name
    try:
        return fx.GraphModule(tracer.root, graph, type(model).__name__)
    except Exception as error:  # something it stores is called as an attribute of graphs is
        raise TraceError(describe_failure(model, "torch.fx", error)) from error


class _Tracer(fx.Tracer):
    """Keeps buffers in the graph: what is computed from them must not be baked in."""

    proxy_buffer_attributes = True
    record_stack_traces = True

    def __init__(self, leaves: Leaves | None = None) -> None:
        self.leaves = leaves or Leaves()
        super().__init__(autowrap_functions=self.leaves.functions)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        is_compiled = isinstance(m, torch.jit.ScriptModule)
        if is_compiled or isinstance(m, self.leaves.modules):
            return True
        return super().is_leaf_module(m, module_qualified_name)


class _BakingTracer(_Tracer):
    """Takes buffers for constants, as plain fx does: control flow may depend on them."""

    proxy_buffer_attributes = False


def _absent_inputs(
    model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The defaults of the inputs that are not given, if any input is given at all."""
    parameters = list(inspect.signature(model.forward).parameters.values())
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    values = {**dict(zip((p.name for p in named), args, strict=False)), **(kwargs or {})}
    given = {name for name, value in values.items() if value is not None}
    if not values:
        return {}
    return {p.name: p.default for p in named if p.name not in given and p.default is None}


def _trace_in_mode(
    model: nn.Module, absent: dict[str, Any], leaves: Leaves, *, training: bool
) -> tuple[fx.Tracer, fx.Graph]:
    failure: Exception | None = None
    for tracer in (_Tracer(leaves), _BakingTracer(leaves)):
        try:
            shared = shared_copy(model)
            forget_caches(shared)
            # Twice, the other is in there: an interrupt may come where that puts things back.
            with (
                exclusive(),
                unobserved(shared, gradients=torch.is_grad_enabled(), seed=TRACED),
                _same_values(shared),
            ):
                set_modes(shared, training)
                graph = tracer.trace(shared, concrete_args=absent or None)
            _refuse_replaced(model, shared)
            return tracer, graph
        except Exception as error:
            failure = failure or error
    assert failure is not None
    raise TraceError(describe_failure(model, "torch.fx", failure)) from failure


@contextmanager
def _same_values(model: nn.Module) -> Iterator[None]:
    """What forward writes to buffers while it is traced, where they are no proxies, is undone."""
    before = [(t, t.detach().clone(), _version(t)) for t in model.buffers()]
    try:
        yield
    finally:
        for tensor, value, version in before:
            if _version(tensor) != version or not is_equal(tensor, value):
                with torch.no_grad(), torch.inference_mode(tensor.is_inference()):
                    tensor.copy_(value)


def _version(tensor: torch.Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _refuse_replaced(model: nn.Module, traced: nn.Module) -> None:
    """A graph cannot put another tensor in the place of a buffer."""
    for name, buffer in model.named_buffers(remove_duplicate=False):
        owner, _, leaf = name.rpartition(".")
        if traced.get_submodule(owner)._buffers.get(leaf) is not buffer:
            raise TraceError(f"forward puts another tensor in the place of the buffer {name!r}")


def is_mode_dependent(
    model: nn.Module,
    traced: fx.GraphModule,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    leaves: Leaves | None = None,
) -> bool:
    """Would tracing in train mode give another graph, as with functional dropout?"""
    if isinstance(model, fx.GraphModule):
        return False
    try:
        absent = _absent_inputs(model, args, kwargs)
        _, training = _trace_in_mode(model, absent, leaves or Leaves(), training=True)
    except TraceError:
        return True
    return _signature(training) != _signature(traced.graph)


def _signature(graph: fx.Graph) -> list[str]:
    return [node.format_node() or node.name for node in graph.nodes]


def describe_failure(model: nn.Module, front_end: str, error: Exception) -> str:
    """What could not be traced, and the line of the user's source where."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not {TORCH, OURS} & set(Path(frame.filename).parents)
    ]
    where = ""
    if frames:
        last = frames[-1]
        where = f"\n  in {last.filename}, line {last.lineno}:\n    {last.line}"
    return (
        f"{type(model).__name__} cannot be traced by {front_end}: {type(error).__name__}: {error}"
        f"{where}"
    )
