"""Passes between Dynamo and the backend that compiles what they return."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.fx.passes.infra.pass_base import PassResult

from ..arguments import refuse
from ..passes.trace import Trace
from ..tracing.lifted import lift
from .placeholders import as_number, name_weights

Step = Callable[[fx.GraphModule], Any]
Build = Callable[[fx.GraphModule, Sequence[Any]], Callable[..., Any]]


def compile_with_passes(
    passes: Sequence[Step],
    graph_module: fx.GraphModule,
    inputs: Sequence[Any],
    model: nn.Module | None,
    build: Build,
) -> Callable[..., Any]:
    """Run passes on a captured graph, and have what they return compiled.

    Weights are inputs of a captured graph. A pass may return a graph that holds them itself, as
    ``Trace`` of this library does: these become inputs again, taken from the live ones where they
    are among these.

    Args:
        passes: each takes a ``GraphModule`` and returns a ``PassResult``.
        graph_module, inputs: what Dynamo gives a backend.
        model: the model that is compiled, if it is known.
        build: compiles a graph for inputs like those given.

    Raises:
        InvalidArgumentError: a pass returns something else than a ``PassResult`` with a graph, or
            a graph that takes other inputs.
    """
    names = name_weights(graph_module, inputs, model)
    module = graph_module
    for step in passes:
        if isinstance(step, Trace):
            step = step.on([as_number(x) for x in inputs], names)
        result = step(module)
        module = getattr(result, "graph_module", module)
        if not isinstance(result, PassResult) or not isinstance(module, fx.GraphModule):
            advice = "return PassResult(graph_module, modified)"
            expected = f"a PassResult with a GraphModule from {type(step).__name__}"
            refuse("passes", expected, result, advice)
    return _with_live_weights(module, inputs, names, build)


def _with_live_weights(
    module: fx.GraphModule, inputs: Sequence[Any], names: Mapping[int, str], build: Build
) -> Callable[..., Any]:
    lifted, tensors = lift(module)
    others = [k for k in range(len(inputs)) if k not in names]
    left = len(module.graph.find_nodes(op="placeholder"))
    if left == len(inputs):
        others = list(range(len(inputs)))
    elif left != len(others):
        expected = f"a graph with {len(inputs)} inputs, or {len(others)} without weights"
        refuse("passes", expected, left)
    places = {id(x): k for k, x in enumerate(inputs) if isinstance(x, torch.Tensor)}
    stored = [(places.get(id(t)), t) for t in tensors.values()]

    def arranged(given: Sequence[Any]) -> list[Any]:
        held = [t if k is None else given[k] for k, t in stored]
        return [*held, *(given[k] for k in others)]

    inner = build(lifted, arranged(inputs))
    return lambda *given: inner(*arranged(given))
