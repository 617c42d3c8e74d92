"""From a user's module to an fx graph, without touching the module."""

from __future__ import annotations

import copy
import inspect
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import fx, nn

from ..errors import TraceError
from ..models.rebased import RebasedModule, holder

TORCH = Path(torch.__file__).parent

M = TypeVar("M", bound=nn.Module)


def shared_copy(model: M) -> M:
    """A copy of a module that shares its parameters and buffers, and nothing else.

    Some modules keep tensors that they compute in forward. Tracing the user's own module would
    leave proxies behind in them; tracing the copy does not.
    """
    return deep_copy(model, {id(t): t for t in [*model.parameters(), *model.buffers()]})


def deep_copy(model: M, memo: dict[int, Any] | None = None) -> M:
    """A deep copy, also of modules that keep tensors computed in forward."""
    memo = dict(memo or {})
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, torch.Tensor) and not value.is_leaf:
                memo.setdefault(id(value), value.detach())
    if isinstance(model, fx.GraphModule):
        return _deep_copy_of_graph(model, memo)  # type: ignore[return-value]
    try:
        copied = copy.deepcopy(model, dict(memo))
    except TypeError:  # what Python says of that which it cannot copy
        copied = copy.deepcopy(model, {**memo, **_uncopiable(model, memo)})
    for module in copied.modules():
        if isinstance(module, nn.RNNBase):
            module.flatten_parameters()  # into one piece again, as accelerators want them
    return copied


def _uncopiable(model: nn.Module, memo: dict[int, Any]) -> dict[int, Any]:
    """What modules hold that has no copies, such as locks and custom ops, as a memo to share it."""
    found: dict[int, Any] = {}
    for module in model.modules():
        for name in vars(module).keys() - vars(nn.Module()).keys():
            value = vars(module)[name]
            try:
                copy.deepcopy(value, dict(memo))
            except TypeError:
                found[id(value)] = value
    return found


def forget_caches(model: nn.Module) -> None:
    """Have modules drop what they computed from weights that are no longer the same.

    Those that keep such things between evaluations drop them when training begins.
    """
    modes = {module: module.training for module in model.modules()}
    model.train()
    for module, mode in modes.items():
        module.training = mode


def _deep_copy_of_graph(model: fx.GraphModule, memo: dict[int, Any]) -> RebasedModule:
    """``GraphModule`` itself drops what its graph does not use when it is copied."""
    root = holder(copy.deepcopy(holder(model.__dict__).__dict__, memo))
    copied = RebasedModule(root, copy.deepcopy(model.graph), type(model).__name__)
    copied.meta.update(model.meta)
    copied.training = model.training
    return copied


@dataclass(frozen=True)
class Leaves:
    """What is not looked into while tracing: modules of these types, and these functions."""

    modules: tuple[type[nn.Module], ...] = ()
    functions: tuple[Callable[..., Any], ...] = ()


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
    tracer, graph = _traced(model, absent, leaves or Leaves(), training=False)
    for node in graph.find_nodes(op="placeholder"):
        name = str(node.target).rpartition("_")[0]
        if name in absent:  # fx numbers the inputs that it is told the values of
            node.target = name
    return fx.GraphModule(tracer.root, graph, type(model).__name__)


class _Tracer(fx.Tracer):
    """Keeps buffers in the graph: what is computed from them must not be baked in."""

    proxy_buffer_attributes = True
    record_stack_traces = True

    def __init__(self, leaves: Leaves | None = None) -> None:
        self.leaves = leaves or Leaves()
        super().__init__(autowrap_functions=self.leaves.functions)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, self.leaves.modules) or super().is_leaf_module(
            m, module_qualified_name
        )


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


def _traced(
    model: nn.Module, absent: dict[str, Any], leaves: Leaves, *, training: bool
) -> tuple[fx.Tracer, fx.Graph]:
    failure: Exception | None = None
    for tracer in (_Tracer(leaves), _BakingTracer(leaves)):
        try:
            with torch.random.fork_rng(devices=_cuda_devices(model)):
                shared = shared_copy(model).train(training)
                graph = tracer.trace(shared, concrete_args=absent or None)
            _refuse_replaced(model, shared)
            return tracer, graph
        except Exception as error:
            failure = failure or error
    assert failure is not None
    raise TraceError(describe_failure(model, "torch.fx", failure)) from failure


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
        _, training = _traced(model, absent, leaves or Leaves(), training=True)
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
        if TORCH not in Path(frame.filename).parents and Path(frame.filename) != Path(__file__)
    ]
    where = ""
    if frames:
        last = frames[-1]
        where = f"\n  in {last.filename}, line {last.lineno}:\n    {last.line}"
    return (
        f"{type(model).__name__} cannot be traced by {front_end}: {type(error).__name__}: {error}"
        f"{where}"
    )


def _cuda_devices(model: nn.Module) -> list[int]:
    return sorted({t.device.index for t in model.parameters() if t.device.type == "cuda"})


@contextmanager
def unobserved(model: nn.Module, *, gradients: bool = False) -> Iterator[None]:
    """Run a module in eval mode, by default without gradients, leaving no trace in it.

    Its modes and the random state are restored afterwards.
    """
    modes = {module: module.training for module in model.modules()}
    devices = _cuda_devices(model)
    fast = torch.backends.mha.get_fastpath_enabled()
    model.eval()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.set_grad_enabled(gradients), torch.random.fork_rng(devices=devices):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, mode in modes.items():
            module.training = mode
