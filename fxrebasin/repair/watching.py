"""Run a model over data, and see or correct its values on the way.

A graph of ``torch.export`` holds for the shapes that it was made for. So a model is traced once for
every form of inputs that the data has; places go by their names, which are the same in all of its
graphs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ..errors import TraceError
from ..models.inputs import form_of, in_placeholder_order
from ..models.interpreter import Interpreter
from ..models.nodes import argument
from ..models.outputs import returned
from ..models.precision import TOLERANCE, dtype_of, largest_error
from ..models.randomness import keeping_random_state
from ..models.running import clone_tensors, run_whole, unobserved
from ..models.state import is_equal
from ..tracing.export import export
from ..tracing.front_ends import FrontEnd, run_or_retrace, trace_by_first
from ..tracing.symbolic import Leaves
from .batches import Batches
from .folding import overwrite
from .places import Found, Place, find_places

GRAPHS: tuple[FrontEnd, ...] = ("export", "symbolic_trace")
KEPT = 16
"""For how many forms of inputs a graph is kept."""


class Watcher(Protocol):
    """What is done with the values at places."""

    def layer(self, place: Place, value: Tensor) -> Tensor:
        """Take note of a value, and give what the model is to go on with."""

    def norm(self, place: Place, given: Tensor) -> tuple[Tensor, Tensor] | None:
        """The mean and variance to normalise with; None for those that the model has."""


class Subject:
    """A model, its graphs, and the data that it is run on."""

    def __init__(self, model: nn.Module, batches: Batches) -> None:
        self.model, self.batches = model, batches
        self.device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self._graphs: dict[Any, tuple[fx.GraphModule, Found]] = {}

    def find(self) -> Found:
        """The places of the model, on the first batch.

        Raises:
            TraceError: there is no graph, or it does not compute what the model does.
            InvalidInputError: the model does not run on the data.
        """
        with self._reading() as read:
            args, kwargs = next(read)
            found = self._graph(args, kwargs)[1]
            self._check(args, kwargs)
        return found

    def watch(self, watcher: Watcher, names: Collection[str]) -> int:
        """Run the model over the data, up to the last of some places; how many batches there were.

        Afterwards the model's buffers are what they were, and so is the state of random numbers:
        a loader that shuffles gives the same batches in every pass.
        """
        count = 0
        with self._reading() as read:
            for args, kwargs in read:
                graph, found = self._graph(args, kwargs)
                _run(graph, _Watched(graph, found, watcher, names), args, kwargs)
                count += 1
        return count

    @contextmanager
    def _reading(self) -> Iterator[Iterator[tuple[tuple[Any, ...], dict[str, Any]]]]:
        with keeping_random_state(self.model, always=True), _same_buffers(self.model):
            yield self.batches.read(self.device)

    def _graph(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[fx.GraphModule, Found]:
        form = form_of((args, kwargs)) if None not in self._graphs else None
        if form not in self._graphs:
            graph, holds_for_all = trace_values(self.model, args, kwargs)
            form = None if holds_for_all else form
            if len(self._graphs) == KEPT:
                self._graphs.pop(next(iter(self._graphs)))
            self._graphs[form] = (graph, find_places(graph))
        return self._graphs[form]

    def _check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        graph, _ = self._graph(args, kwargs)
        expected = run_whole(self.model, args, kwargs).tensors
        found = returned(_run(graph, Interpreter(graph), args, kwargs)).tensors
        error = largest_error(expected, found)
        if not error <= TOLERANCE[dtype_of(self.model)]:
            raise TraceError(
                f"its graph computes something else: the outputs differ by {error:.1e}"
            )


def trace_values(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[fx.GraphModule, bool]:
    """A graph of a model that runs, and whether it holds for inputs of every shape.

    Raises:
        TraceError: there is none.
        InvalidInputError: the model does not run.
    """
    if isinstance(model, fx.GraphModule) and model.graph.find_nodes(op="call_module"):
        try:  # it shows what happens inside of modules
            return export(model, args, kwargs), False
        except TraceError:
            pass

    def use(graph: fx.GraphModule) -> None:
        _run(graph, Interpreter(graph), args, kwargs)

    leaves = Leaves()
    traced = trace_by_first(GRAPHS, model, args, kwargs, leaves)
    traced, _ = run_or_retrace(traced, model, args, kwargs, leaves, use)
    assert isinstance(traced.module, fx.GraphModule)
    return traced.module, traced.origin.front_end != "export"


def _run(
    graph: fx.GraphModule, interpreter: Interpreter, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    with unobserved(graph):
        inputs = in_placeholder_order(graph, *clone_tensors((args, kwargs)))
        return interpreter.run(*inputs, enable_io_processing=False)


@contextmanager
def _same_buffers(model: nn.Module) -> Iterator[None]:
    """What forward writes to buffers is undone."""
    before = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            if not is_equal(buffer.detach(), value):
                overwrite(buffer, value)


class _Watched(Interpreter):
    """Runs a graph up to the last place of some, and hands their values to a watcher."""

    def __init__(
        self, module: fx.GraphModule, found: Found, watcher: Watcher, names: Collection[str]
    ) -> None:
        super().__init__(module)
        self.watcher = watcher
        self.places = {node: p for node, p in found.by_node.items() if p.name in names}
        self.open = set(self.places)

    def run_node(self, n: fx.Node) -> Any:
        if not self.open:
            return None
        place = self.places.get(n)
        if place is None:
            return super().run_node(n)
        self.open.discard(n)
        if place.kind == "batch_norm":
            given = self.env[argument(n, 0, "input")]
            statistics = self.watcher.norm(place, given)
            if statistics is None:
                return super().run_node(n)
            return self._normalise(n, given, *statistics)
        return self.watcher.layer(place, super().run_node(n))

    def _normalise(self, n: fx.Node, given: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        weight, bias, eps = self._norm_of(n)
        mean, variance = (x.to(given.device, given.dtype) for x in (mean, variance))
        return F.batch_norm(given, mean, variance, weight, bias, False, 0.0, eps)

    def _norm_of(self, n: fx.Node) -> tuple[Tensor | None, Tensor | None, float]:
        if n.op == "call_module":
            module: Any = self.fetch_attr(str(n.target))
            return module.weight, module.bias, module.eps
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        first = 1 if isinstance(n.target, torch._ops.OpOverload) else 3

        def given(place: int, name: str, default: Any = None) -> Any:
            return args[place] if place < len(args) else kwargs.get(name, default)

        return given(first, "weight"), given(first + 1, "bias"), given(7, "eps", 1e-5)
