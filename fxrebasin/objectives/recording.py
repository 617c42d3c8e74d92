"""What layers with weights are given and return, recorded while a model runs as a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn

from ..errors import ArchitectureMismatchError
from ..models.copying import deep_copy
from ..models.inputs import in_placeholder_order
from ..models.interpreter import Interpreter
from ..models.running import clone_tensors, unobserved
from ..models.validation import stored_tensors
from ..rules.registry import RuleBook
from ..tracing.front_ends import FrontEnd, run_or_retrace, trace_by_first
from ..tracing.symbolic import Leaves

Activations = dict[str, torch.Tensor]


def watch(
    front_ends: Sequence[FrontEnd],
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    rules: RuleBook,
) -> tuple[fx.GraphModule, Activations]:
    """A graph of a model that runs, and what its layers are given and return."""
    leaves = Leaves(rules.modules, rules.functions, rules.methods)

    def use(module: fx.GraphModule) -> Activations:
        return recorded(deep_copy(module), args, kwargs)

    traced = trace_by_first(front_ends, model, args, kwargs, leaves)
    traced, seen = run_or_retrace(traced, model, args, kwargs, leaves, use)
    assert isinstance(traced.module, fx.GraphModule)
    return traced.module, seen


class _Recorder(Interpreter):
    """Keeps what layers with weights are given and return."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.watched = _around_layers(module)
        self.seen: Activations = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n in self.watched and isinstance(value, torch.Tensor) and value.is_floating_point():
            self.seen[n.name] = value
        return value


def _around_layers(module: fx.GraphModule) -> set[fx.Node]:
    """The values, computed from the model's inputs, that meet something stored, and the results."""
    stored: set[fx.Node] = set()
    watched: set[fx.Node] = set()
    for node in module.graph.nodes:
        inputs = set(node.all_input_nodes)
        is_layer = node.op == "call_module" and any(
            True for _ in module.get_submodule(str(node.target)).parameters()
        )
        if node.op == "get_attr" or (inputs and inputs <= stored):
            stored.add(node)
        elif is_layer or inputs & stored:
            watched |= {node, *(x for x in inputs - stored if x.op != "placeholder")}
    return watched


def recorded(module: fx.GraphModule, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Activations:
    """What is recorded while a graph runs, which may write to its buffers: give it a copy."""
    recorder = _Recorder(module)
    with unobserved(module):
        inputs = in_placeholder_order(module, *clone_tensors((tuple(args), dict(kwargs))))
        recorder.run(*inputs, enable_io_processing=False)
    return recorder.seen


def with_tensors(module: fx.GraphModule, tensors: Mapping[str, torch.Tensor]) -> fx.GraphModule:
    """A copy of a graph with other weights; it may lack some, which it does not use."""
    made = deep_copy(module)
    with torch.no_grad():
        for name, slot in stored_tensors(made).items():
            if name in tensors:
                slot.copy_(tensors[name])
    return made


def check_comparable(b: Activations, a: Activations) -> None:
    """Refuse two models that do not have the same values, in the same shapes.

    Raises:
        ArchitectureMismatchError: naming a value that they do not share.
    """
    shapes_b, shapes_a = ({k: tuple(t.shape) for k, t in seen.items()} for seen in (b, a))
    if shapes_b != shapes_a:
        name = next(k for k in {**shapes_b, **shapes_a} if shapes_b.get(k) != shapes_a.get(k))
        raise ArchitectureMismatchError(
            f"the value {name!r} has shape {shapes_b.get(name)} in model B and "
            f"{shapes_a.get(name)} in the reference model A; both must take the same path"
        )


def returning(module: fx.GraphModule, names: Sequence[str]) -> fx.GraphModule:
    """A copy of a graph that returns some of its values before what it returns."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    returned = graph.graph_copy(module.graph, copies)
    by_name = {node.name: copy for node, copy in copies.items()}
    graph.output(([by_name[name] for name in names], returned))
    graph.set_codegen(module.graph._codegen)
    return fx.GraphModule(module, graph)
