"""Which inputs of Dynamo's graph are weights, and under which names their model knows them.

Dynamo notes on every input where it was found, as ``L['self']._modules['0']._parameters['bias']``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import fx, nn

from ..errors import InvalidArgumentError
from ..models.validation import stored_tensors
from ..tracing.lifted import NAME

_PART = re.compile(r"\.(\w+)|\[['\"]?([^'\"\]]+)['\"]?\]")
_STORED = ("_modules", "_parameters", "_buffers")


def name_weights(
    graph_module: fx.GraphModule,
    inputs: Sequence[Any],
    model: nn.Module | None,
    known: Collection[str] | None = None,
) -> dict[int, str]:
    """From the positions of the inputs that are weights to their names.

    Args:
        graph_module: what Dynamo captured.
        inputs: what it gives a backend with it, among which are the live parameters.
        model: the model whose parameters they are, if it is known: told by identity.
        known: the names that weights may have; any if not given.

    Raises:
        InvalidArgumentError: a parameter among the inputs has none of the names.
    """
    owned: dict[int, str] = {}
    for name, tensor in stored_tensors(model).items() if model is not None else ():
        owned.setdefault(id(tensor), name)
    found: dict[int, str] = {}
    nodes = graph_module.graph.find_nodes(op="placeholder")
    for place, (node, value) in enumerate(zip(nodes, inputs, strict=True)):
        if not isinstance(value, torch.Tensor):
            continue
        source = source_of(node)
        name = node.meta.get(NAME) or _stored_name(source)
        if model is not None:
            name = owned.get(id(value), "")
        is_known = bool(name) and (known is None or name in known)
        if not is_known and not isinstance(value, nn.Parameter):
            continue  # an input of the user's, or a buffer that no state dict holds
        if not is_known:
            told = repr(name) if name else "none"
            advice = "" if model is not None else "; say which model it belongs to with model="
            raise InvalidArgumentError(
                f"the input {node.name!r} of the captured graph ({source or 'no source'}) is a "
                f"parameter, and its name, {told}, is none of the reference's, as "
                f"{next(iter(known or ()), '')!r}{advice}"
            )
        found[place] = name
    return found


def as_number(value: Any) -> Any:
    """What a symbolic number is in this call; others as they are."""
    return value.node.hint if isinstance(value, (torch.SymInt, torch.SymFloat)) else value


def source_of(node: fx.Node) -> str:
    """Where Dynamo found the value of an input; nothing if it does not say."""
    return str(getattr(getattr(node, "_dynamo_source", None), "name", "") or "")


def _stored_name(source: str) -> str:
    """The dotted name of a parameter or buffer, from the attributes that lead to it."""
    parts = [attribute or key for attribute, key in _PART.findall(source)][1:]
    if not {"_parameters", "_buffers"} & set(parts):
        return ""
    return ".".join(part for part in parts if part not in _STORED)
