"""Example inputs in the order in which the placeholders of a graph stand for them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.utils._pytree import tree_flatten

from ..errors import InvalidInputError


def needs_inputs(model: nn.Module) -> bool:
    """Is there an input that cannot be left out?"""
    if isinstance(model, torch.jit.ScriptModule):
        forward: Any = model.forward
        arguments = forward.schema.arguments[1:]
        return any(not argument.has_default_value() for argument in arguments)
    parameters = inspect.signature(model.forward).parameters.values()
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return any(p.default is p.empty and p.kind not in optional for p in parameters)


def takes_nested_inputs(graph: fx.Graph) -> bool:
    """Do the placeholders stand for the leaves of nested inputs, as in exported graphs?"""
    return isinstance(graph._codegen, fx.graph._PyTreeCodeGen)


def flat_inputs(graph: fx.Graph, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """Example inputs as a list of leaves, as the placeholders of an exported graph want them.

    Raises:
        InvalidInputError: the inputs are nested in another way than those that were exported.
    """
    codegen: Any = graph._codegen
    spec = codegen.pytree_info.in_spec
    names = spec.children()[1].context
    given = {name: value for name, value in kwargs.items() if value is not None or name in names}
    if sorted(given) == sorted(names):
        given = {name: given[name] for name in names}
    leaves, found = tree_flatten((tuple(args), given))
    if found != spec:
        raise InvalidInputError(
            f"the model was exported for inputs nested as {spec}, but the example inputs are "
            f"nested as {found}"
        )
    return leaves


def in_placeholder_order(
    module: fx.GraphModule, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[Any]:
    """Arrange example inputs as ``fx.Interpreter.run`` wants them.

    Raises:
        InvalidInputError: an input is missing, or there are too many.
    """
    if takes_nested_inputs(module.graph):
        return flat_inputs(module.graph, args, kwargs)
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
    taken = {str(node.target) for node in module.graph.find_nodes(op="placeholder")[len(args) :]}
    unknown = sorted(name for name in set(kwargs) - taken if kwargs[name] is not None)
    if unknown:
        raise InvalidInputError(
            f"the example input {unknown[0]!r} is not an input of the model, or was given by "
            f"position already; the model's remaining inputs are {sorted(taken)}"
        )
    if rest:
        raise InvalidInputError(
            f"{len(args)} example inputs were given, but the model takes {len(args) - len(rest)}"
        )
    return values


def form_of(inputs: Any) -> tuple[Any, ...]:
    """What a graph may depend on of its inputs: all but the numbers in tensors."""
    leaves, spec = tree_flatten(inputs)
    described = (
        (tuple(x.shape), x.dtype, x.device) if isinstance(x, torch.Tensor) else (type(x), repr(x))
        for x in leaves
    )
    return (str(spec), *described)
