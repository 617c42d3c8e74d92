"""Where in the stored tensors of a model the output channels of a layer are.

The weight of a layer need not be a parameter as it is stored: attention cuts it out of a packed
one, pruning multiplies it with a mask, a linear layer of GPT-2 stores it transposed. So the
coordinates of the parameter are sent along the way that its numbers take, and what arrives says
which index of which axis each channel is made of:

>>> from torch import fx, nn
>>> class Cut(nn.Module):
...     def __init__(self):
...         super().__init__()
...         self.packed = nn.Parameter(torch.randn(6, 2))
...     def forward(self, x):
...         return nn.functional.linear(x, self.packed.chunk(3)[1])
>>> graph = fx.symbolic_trace(Cut())
>>> (layer,) = (node for node in graph.graph.nodes if node.name == "linear")
>>> find_slot(graph, layer.args[1], axis=0)
Slot(name='packed', axis=0, rows=(2, 3), groups=1)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from ..models.nodes import argument, name_of

MOVES = frozenset(
    [
        *("split", "split_with_sizes", "chunk", "unbind", "tensor_split", "getitem", "slice"),
        *("narrow", "select", "view", "reshape", "unsafe_view", "flatten", "unflatten"),
        *("transpose", "t", "swapaxes", "permute", "numpy_T", "squeeze", "unsqueeze", "movedim"),
        "index_select",
    ]
)
"""Ops that give the entries of one tensor in another arrangement."""

KEEPS = frozenset(
    [
        *("contiguous", "clone", "alias", "detach", "to", "to_copy", "type_as", "float"),
        *("dropout", "feature_dropout", "lift_fresh_copy", "identity"),
    ]
)
"""Ops that give, in evaluation, the entries of their first argument as they are."""


class Slot(NamedTuple):
    """Where the channels of a layer are in a stored tensor."""

    name: str
    axis: int
    rows: tuple[int, ...] | None = None
    """The index that each channel has along the axis; None if that is all of them in order."""
    groups: int = 1
    """Of a transposed convolution, whose channels lie behind those that it reads."""


class NoSlotError(ValueError):
    """The channels are not found in one stored tensor; the text says why."""


def stored_value(module: nn.Module, name: str) -> Any:
    """What a dotted name of a module stands for."""
    owner, _, leaf = name.rpartition(".")
    return getattr(module.get_submodule(owner), leaf)


SHAPES = frozenset(("size", "sym_size", "numel", "sym_numel", "dim", "ndimension", "stride"))


def _is_about_shape(node: fx.Node) -> bool:
    """Does a value depend on the shape of a tensor, and on no number in it?"""
    read = node.args[1] if name_of(node) == "getattr" else ""
    return name_of(node) in SHAPES or read in ("shape", "ndim", "dtype", "device")


def leaves_before(node: fx.Node) -> Iterator[fx.Node]:
    """The stored tensors that a value is computed from, with what they go through."""
    seen, stack = {node}, [node]
    while stack:
        last = stack.pop()
        if last.op == "get_attr":
            yield last
        new = [] if _is_about_shape(last) else [n for n in last.all_input_nodes if n not in seen]
        seen.update(new)
        stack.extend(new)


def find_slot(module: fx.GraphModule, weight: fx.Node, *, axis: int, groups: int = 1) -> Slot:
    """Find where the channels along an axis of a stored value are.

    Args:
        module: the graph.
        weight: a value of it that is computed from stored tensors alone.
        axis: that of the channels.
        groups: of a transposed convolution.

    Raises:
        NoSlotError: they are not the indices of one axis of one parameter, each once.
    """
    if weight.op == "get_attr":
        stored = stored_value(module, str(weight.target))
        if not isinstance(stored, nn.Parameter):
            raise NoSlotError(f"{str(weight.target)!r} is no parameter")
        if type(stored.data) is not Tensor:
            raise NoSlotError(f"{str(weight.target)!r} is a {type(stored.data).__name__}")
        return Slot(str(weight.target), axis % stored.ndim, None, groups)
    if name_of(weight) == "weight_norm" and argument(weight, 2, "dim", 0) == axis:
        # w = g v / |v|, with one length g per channel
        return find_slot(module, argument(weight, 1, "g"), axis=axis, groups=groups)
    parameters = {
        str(leaf.target)
        for leaf in leaves_before(weight)
        if isinstance(stored_value(module, str(leaf.target)), nn.Parameter)
    }
    if len(parameters) != 1 or groups > 1:
        raise NoSlotError(
            "its weight is computed from " + (", ".join(parameters) or "no parameter")
        )
    (name,) = parameters
    shape = stored_value(module, name).shape
    for stored_axis, size in enumerate(shape):
        line = torch.arange(size).view([-1] + [1] * (len(shape) - stored_axis - 1))
        sent = _send(module, weight, name, line.expand(shape))
        if not sent.numel():
            break
        rows = sent.movedim(axis, 0).reshape(sent.shape[axis], -1)
        first = rows[:, 0]
        if bool((rows == first[:, None]).all()) and len(first.unique()) == len(first):
            found = tuple(first.tolist())
            return Slot(name, stored_axis, None if found == tuple(range(size)) else found)
    raise NoSlotError(f"its channels are not those of one axis of {name!r}")


def _send(module: fx.GraphModule, value: fx.Node, name: str, coordinates: Tensor) -> Any:
    """Coordinates of a parameter, sent through what gives a value.

    Raises:
        NoSlotError: it goes through an op that does more than to move and to mask.
    """

    def send(node: Any) -> Any:
        if node.op == "get_attr":
            return coordinates
        op = name_of(node)
        if op in KEEPS:
            return send(node.args[0])
        if op in MOVES and len(node.all_input_nodes) == 1:
            given = send(node.all_input_nodes[0])
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda _: given)
            if node.op == "call_method":
                return getattr(args[0], str(node.target))(*args[1:], **kwargs)
            return node.target(*args, **kwargs)
        carrying = [n for n in node.all_input_nodes if _comes_from(n, name)]
        if op in ("mul", "imul", "mul_") and len(carrying) == 1:
            return send(carrying[0])
        raise NoSlotError(f"its weight comes from {name!r} by {op!r}")

    return send(value)


def _comes_from(node: fx.Node, name: str) -> bool:
    return any(leaf.target == name for leaf in leaves_before(node))
