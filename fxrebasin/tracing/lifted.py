"""Graphs whose weights are inputs, as Dynamo, functional models and AOT tracing make them.

:func:`bind` puts tensors of the user's in the place of such inputs, and :func:`lift` does the
opposite; what lies between is a module like any other.

>>> from torch import fx
>>> linear = torch.nn.functional.linear
>>> graph = fx.symbolic_trace(lambda w, x: linear(x, w))
>>> weight, x = nn.Parameter(torch.ones(3, 2)), torch.ones(1, 2)
>>> bound, args = bind(graph, (weight, x), {"w": "layer.weight"})
>>> bound.get_parameter("layer.weight") is weight, len(args)
(True, 1)
>>> lifted, tensors = lift(bound)
>>> bool((lifted(*tensors.values(), *args) == graph(weight, x)).all())
True
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves

from ..arguments import refuse
from ..errors import InvalidArgumentError
from ..models.rebased import RebasedModule
from ..models.validation import check_tensor, stored_tensors

Parameters = nn.Module | Mapping[Any, str | torch.Tensor]
"""Which inputs are weights: those that are a model's own, or what is said of them by name or
position: a name, where the input is among the example inputs, or the tensor itself."""

NAME = "name_of_weight"
"""Under which the inputs that :func:`lift` makes say in ``meta`` what they are."""
SHOWN = 6


def bind(
    graph_module: nn.Module, args: Sequence[Any], parameters: Parameters
) -> tuple[RebasedModule, tuple[Any, ...]]:
    """A module that holds the weights which a graph takes as inputs, and the inputs that are left.

    Args:
        graph_module: any graph; not changed. Nested inputs are counted one by one, in order.
        args: one for every input, or for every input that is no weight.
        parameters: a model, whose parameters and buffers are found among ``args`` by identity; or
            a mapping from inputs, by name or position, to names (then the tensor is taken from
            ``args``) or to tensors (then the input's own name is kept). Equal tensors stay one;
            where none is an ``nn.Parameter``, as in functional code, all numbers are parameters.

    Returns:
        The module, which shares the tensors, and the inputs that it takes.

    Raises:
        InvalidArgumentError: an input is not there, is no tensor, or has no value.
    """
    if not isinstance(graph_module, fx.GraphModule):
        advice = "parameters= is for graphs whose weights are inputs; leave it out"
        refuse("model", "a torch.fx.GraphModule", graph_module, advice)
    inputs = graph_module.graph.find_nodes(op="placeholder")
    given = tuple(tree_leaves(tuple(args)))
    if isinstance(parameters, nn.Module):
        weights = _by_identity(inputs, given, parameters)
    else:
        weights = _by_name(inputs, given, parameters)
    rest = tuple(x for k, x in enumerate(given) if k not in weights)
    if len(given) not in (len(inputs), len(inputs) - len(weights)):
        raise InvalidArgumentError(
            f"args: the graph has {len(inputs)} inputs, {len(weights)} of which are weights; found "
            f"{len(given)} values; give one for every input, or for every other one"
        )
    root = nn.Module()
    states = _as_parameters([tensor for _, tensor in weights.values()])
    for name, tensor in weights.values():
        _store(root, name, states.get(id(tensor), tensor))
    names = {inputs[k].name: name for k, (name, _) in weights.items()}
    left = rest if len(given) == len(inputs) else given
    return RebasedModule(root, _with_attributes(graph_module, root, names), "Bound"), left


def lift(module: fx.GraphModule) -> tuple[fx.GraphModule, dict[str, torch.Tensor]]:
    """A graph that takes the stored tensors of a module as its first inputs, and these by name.

    A module that uses none is returned as it is.
    """
    stored = stored_tensors(module)
    used = [node for node in module.graph.find_nodes(op="get_attr") if node.target in stored]
    tensors = {str(node.target): stored[str(node.target)] for node in used}
    if not tensors:
        return module, {}
    graph = copy.deepcopy(module.graph)
    inputs: dict[str, fx.Node] = {}
    with graph.inserting_before(next(iter(graph.nodes))):
        for name in tensors:
            inputs[name] = graph.placeholder("w_" + name.replace(".", "_"))
            inputs[name].meta[NAME] = name
    for node in graph.find_nodes(op="get_attr"):
        if node.target in inputs:
            node.replace_all_uses_with(inputs[str(node.target)])
            graph.erase_node(node)
    return fx.GraphModule(module, graph), tensors


def _by_identity(
    inputs: Sequence[fx.Node], args: Sequence[Any], model: nn.Module
) -> dict[int, tuple[str, torch.Tensor]]:
    names: dict[int, str] = {}
    for name, tensor in stored_tensors(model).items():
        names.setdefault(id(tensor), name)
    found = {k: (names[id(x)], x) for k, x in enumerate(args) if id(x) in names}
    if not found or len(args) != len(inputs):
        raise InvalidArgumentError(
            f"parameters: expected the model whose parameters are among the {len(inputs)} inputs, "
            f"found a {type(model).__name__}, of which {len(found)} of {len(args)} args are; give "
            "args with the parameters in their places, or a mapping from inputs to names"
        )
    return found


def _by_name(
    inputs: Sequence[fx.Node], args: Sequence[Any], parameters: Mapping[Any, Any]
) -> dict[int, tuple[str, torch.Tensor]]:
    advice = "give a model, or a dict from names or positions of inputs to names or tensors"
    if not isinstance(parameters, Mapping) or not parameters:
        refuse("parameters", "a model or a dict", parameters, advice)
    places = {str(name): k for k, node in enumerate(inputs) for name in (node.name, node.target)}
    found: dict[int, tuple[str, torch.Tensor]] = {}
    for key, value in parameters.items():
        is_place = isinstance(key, int) and not isinstance(key, bool)
        place = key if is_place else places.get(str(key), -1)
        if not 0 <= place < len(inputs):
            known = ", ".join(node.name for node in inputs[:SHOWN])
            more = ", ..." if len(inputs) > SHOWN else ""
            refuse("parameters", f"inputs of the graph ({known}{more})", key)
        if isinstance(value, str):
            if len(args) != len(inputs):
                refuse("args", f"a value for each of {len(inputs)} inputs", tuple(args))
            found[place] = (value, args[place])
        else:
            found[place] = (inputs[place].name, value)
        check_tensor(found[place][1], f"the input {inputs[place].name!r}")
    return dict(sorted(found.items()))


def _as_parameters(tensors: Sequence[torch.Tensor]) -> dict[int, nn.Parameter]:
    """By identity, if there are no parameters among them yet; they share their memory."""
    if any(isinstance(tensor, nn.Parameter) for tensor in tensors):
        return {}
    numbers = {id(t): t for t in tensors if t.is_floating_point() or t.is_complex()}
    return {key: nn.Parameter(t.detach(), t.requires_grad) for key, t in numbers.items()}


def _store(root: nn.Module, name: str, tensor: torch.Tensor) -> None:
    """Register a tensor under a dotted name.

    Raises:
        InvalidArgumentError: there is something else under it.
    """
    *path, last = name.split(".")
    module = root
    for part in path:
        if part not in module._modules:
            module.add_module(part, nn.Module())
        module = module.get_submodule(part)
    there = getattr(module, last, None)
    if there is not None and there is not tensor:
        raise InvalidArgumentError(f"parameters: two different inputs are named {name!r}")
    if there is tensor:
        return
    if isinstance(tensor, nn.Parameter):
        module.register_parameter(last, tensor)
    else:
        module.register_buffer(last, tensor)


def _with_attributes(
    graph_module: fx.GraphModule, root: nn.Module, names: Mapping[str, str]
) -> fx.Graph:
    """The graph, with attributes in the place of inputs; what else it uses goes to the root."""
    graph = copy.deepcopy(graph_module.graph)
    graph.set_codegen(fx.graph.CodeGen())  # inputs are counted one by one
    for node in graph.find_nodes(op="placeholder"):
        if node.name not in names:
            continue
        with graph.inserting_before(node):
            attribute = graph.get_attr(names[node.name])
        attribute.meta = dict(node.meta)
        node.replace_all_uses_with(attribute)
        graph.erase_node(node)
    for node in graph.nodes:
        if node.op in ("get_attr", "call_module") and node.target not in names.values():
            part = str(node.target).partition(".")[0]
            if not hasattr(root, part):
                setattr(root, part, getattr(graph_module, part))
    return graph
