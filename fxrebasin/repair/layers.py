"""The layers of a graph, however they are spelled: modules, functions, methods, ATen ops.

>>> from torch import fx, nn
>>> class Net(nn.Module):
...     def __init__(self):
...         super().__init__()
...         self.a, self.w, self.b = nn.Linear(2, 3), nn.Parameter(torch.ones(3, 4)), nn.Parameter(
...             torch.ones(4)
...         )
...     def forward(self, x):
...         return self.a(x) @ self.w + self.b
>>> found, _ = find_layers(fx.symbolic_trace(Net()))
>>> [(layer.name, layer.kind, layer.channels, layer.bias) for layer in found]
[('a', 'linear', 3, Slot(name='a.bias', axis=0, rows=None, groups=1)), \
('w', 'matmul', 4, Slot(name='b', axis=0, rows=None, groups=1))]
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.dropout import _DropoutNd

from ..models.nodes import argument, name_of
from .channels import (
    KEEPS,
    NoSlotError,
    Slot,
    find_slot,
    leaves_before,
    stored_value,
)

CONVOLUTIONS = tuple(f"conv{n}d" for n in (1, 2, 3))
TRANSPOSED = tuple(f"conv_transpose{n}d" for n in (1, 2, 3))
PRODUCTS = ("matmul", "mm")
ADDS = ("add", "iadd", "add_")
OTHERS = frozenset(
    [
        *("bilinear", "lstm", "gru", "rnn_tanh", "rnn_relu", "einsum", "bmm", "baddbmm", "addbmm"),
        *("multi_head_attention_forward", "native_batch_norm", "native_batch_norm_legit"),
        *("native_batch_norm_legit_no_training", "cudnn_batch_norm", *PRODUCTS),
    ]
)
"""Ops that use weights in a way that no row here knows."""

MADE = frozenset(("ones", "zeros", "full", "eye", "arange", "tensor", "scalar_tensor"))
"""Ops that make constants of nothing."""

LINEAR: tuple[type[nn.Module], ...] = (nn.Linear, _ConvNd)
HARMLESS: tuple[type[nn.Module], ...] = (
    _BatchNorm,
    *(nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm, nn.PReLU),
    *(nn.Embedding, nn.EmbeddingBag),
)
"""Modules with parameters, that are no layers to correct."""


@dataclass(frozen=True)
class Layer:
    """A layer whose output channels belong to stored tensors, or BatchNorm."""

    name: str
    kind: str
    channels: int
    axis: int
    """That of the channels, counted from the last axis; 1 for BatchNorm."""
    calls: tuple[fx.Node, ...]
    """The ops that use its weight."""
    nodes: tuple[fx.Node, ...]
    """Their results, with the bias that may be added apart."""
    weight: Slot | None
    bias: Slot | None = None
    statistics: tuple[Slot, ...] = ()
    """Running mean and variance, of BatchNorm."""
    is_plain: bool = False
    """Is its weight used as it is stored, with no mask and no norm on the way?"""


def stored_nodes(graph: fx.GraphModule) -> set[fx.Node]:
    """The values that are computed from stored tensors and constants alone."""
    found: set[fx.Node] = set()
    for node in graph.graph.nodes:
        inputs = set(node.all_input_nodes)
        is_computed = node.op in ("call_function", "call_method") and inputs <= found
        if node.op == "get_attr" or (is_computed and (inputs or name_of(node) in MADE)):
            found.add(node)
    return found


def is_kept(node: fx.Node) -> bool:
    """Is a value, in evaluation, that of its only input?"""
    if node.op == "call_module":
        module = _module(node)
        return isinstance(module, (nn.Identity, _DropoutNd))
    return name_of(node) in KEEPS and len(node.all_input_nodes) == 1


def _module(node: fx.Node) -> nn.Module:
    owner = node.graph.owning_module
    assert owner is not None
    return owner.get_submodule(str(node.target))


def find_layers(graph: fx.GraphModule) -> tuple[list[Layer], dict[str, str]]:
    """Find the layers of a graph, and by name those that are left alone, with the reason."""
    stored = stored_nodes(graph)
    left: dict[str, str] = {}
    found: dict[object, Layer] = {}
    for node in graph.graph.nodes:
        try:
            layer = _read(graph, node, stored)
        except NoSlotError as error:
            left[_unread_name(graph, node, stored)] = str(error)
            continue
        if layer is not None:
            key = (layer.weight, layer.bias, layer.statistics)
            if key in found:
                before = found[key]
                layer = replace(
                    before, calls=before.calls + layer.calls, nodes=before.nodes + layer.nodes
                )
            found[key] = layer
    shared = _shared(graph, [*found.values()], stored)
    left.update({name: f"its {what} has other uses as well" for name, what in shared.items()})
    return [layer for layer in found.values() if layer.name not in shared], left


def _read(graph: fx.GraphModule, node: fx.Node, stored: set[fx.Node]) -> Layer | None:
    """A node as a layer; None if it is none.

    Raises:
        NoSlotError: it is one, and its channels are not found in stored tensors.
    """
    if node.op == "call_module":
        return _read_module(graph, node)
    if node.op not in ("call_function", "call_method") or node in stored:
        return None
    if isinstance(node.target, torch._ops.HigherOrderOperator):
        raise NoSlotError("the graph has it in a region of its own, which is not looked into")
    op = name_of(node)
    if op == "linear":
        return _layer(graph, node, op, 1, 0, stored, bias=2)
    if op in CONVOLUTIONS:
        return _layer(graph, node, op, 1, 0, stored, bias=2)
    if op in TRANSPOSED:
        groups = argument(node, 6, "groups", 1)
        return _layer(graph, node, op, 1, 1, stored, bias=2, groups=groups)
    if op == "convolution":
        groups = argument(node, 8, "groups", 1) if argument(node, 6, "transposed") else 1
        axis = int(bool(argument(node, 6, "transposed")))
        return _layer(graph, node, op, 1, axis, stored, bias=2, groups=groups)
    if op == "addmm" and argument(node, 2, "mat2") in stored:
        return _layer(graph, node, op, 2, 1, stored, bias=0)
    if op in PRODUCTS and argument(node, 1, "other") in stored:
        return _layer(graph, node, op, 1, -1, stored)
    if op == "batch_norm" and argument(node, 0, "input") not in stored:
        return _read_batch_norm(graph, node)
    if op in OTHERS and _parameters_of(graph, node, stored):
        raise NoSlotError(f"it is used by {op!r}, whose result is not that of one linear layer")
    return None


def _layer(
    graph: fx.GraphModule,
    node: fx.Node,
    op: str,
    weight: int,
    axis: int,
    stored: set[fx.Node],
    *,
    bias: int | None = None,
    groups: int = 1,
) -> Layer:
    """A layer from the places of its weight and bias among the arguments."""
    given = argument(node, weight, "mat2" if op == "addmm" else "weight")
    if given is None:
        given = argument(node, weight, "other")
    if given not in stored:
        raise NoSlotError("its weight is computed from the inputs")
    slot = find_slot(graph, given, axis=axis, groups=groups)
    dims = _tensor_of(graph, slot).ndim
    is_convolution = op in (*CONVOLUTIONS, *TRANSPOSED, "convolution")
    added = argument(node, bias, "bias") if bias is not None else None
    if added is None and op == "addmm":
        added = node.kwargs.get("input")
    bias_slot = None
    if added is not None:
        if added not in stored:
            raise NoSlotError("its bias is computed from the inputs")
        if node.kwargs.get("alpha", 1) != 1 or node.kwargs.get("beta", 1) != 1:
            raise NoSlotError("its bias and its weight are added in other shares than one to one")
        bias_slot = find_slot(graph, added, axis=-1)
    if not _tensor_of(graph, slot).is_floating_point():
        raise NoSlotError(f"its weight is of {_tensor_of(graph, slot).dtype}")
    result = Layer(
        name_of_slot(slot),
        "matmul" if op in PRODUCTS else op,
        _count(graph, slot),
        1 - dims if is_convolution else -1,
        (node,),
        (node,),
        slot,
        bias_slot,
        is_plain=given.op == "get_attr",
    )
    return result if bias_slot is not None else _with_bias_apart(graph, result, stored)


def _with_bias_apart(graph: fx.GraphModule, layer: Layer, stored: set[fx.Node]) -> Layer:
    """The same layer with the bias that is added to its result, if there is one."""
    (node,) = layer.nodes
    user = next(iter(node.users), None)
    if len(node.users) != 1 or user is None or name_of(user) not in ADDS:
        return layer
    others = [n for n in user.all_input_nodes if n is not node]
    if len(others) != 1 or others[0] not in stored or user.kwargs.get("alpha", 1) != 1:
        return layer
    try:
        slot = find_slot(graph, others[0], axis=layer.axis)
    except (NoSlotError, IndexError):
        return layer
    tensor = _tensor_of(graph, slot)
    if slot.rows is not None or tensor.numel() != layer.channels != tensor.shape[slot.axis]:
        return layer
    if tensor.ndim - slot.axis != -layer.axis:
        return layer
    return replace(layer, bias=slot, nodes=(user,))


def _read_module(graph: fx.GraphModule, node: fx.Node) -> Layer | None:
    module, name = _module(node), str(node.target)
    if isinstance(module, _BatchNorm):
        return _read_batch_norm_module(module, node)
    if not isinstance(module, LINEAR):
        used = next(module.parameters(), None)
        if used is not None and not isinstance(module, HARMLESS):
            raise NoSlotError(
                f"the graph does not show what happens inside of {type(module).__name__}"
            )
        return None
    weight = next((n for n in ("weight", "weight_orig") if n in module._parameters), None)
    if weight is None:
        raise NoSlotError("its weight is computed by a parametrisation")
    transposed = isinstance(module, _ConvTransposeNd)
    groups = int(module.groups) if isinstance(module, _ConvTransposeNd) else 1
    slot = Slot(f"{name}.{weight}", int(transposed), None, groups)
    bias = next((n for n in ("bias", "bias_orig") if module._parameters.get(n) is not None), None)
    kind = "linear" if isinstance(module, nn.Linear) else _spelled(module)
    dims = _tensor_of(graph, slot).ndim
    return Layer(
        name,
        kind,
        _count(graph, slot),
        1 - dims if isinstance(module, _ConvNd) else -1,
        (node,),
        (node,),
        slot,
        Slot(f"{name}.{bias}", 0) if bias else None,
        is_plain=weight == "weight",
    )


def _spelled(convolution: nn.Module) -> str:
    name = type(convolution).__name__.lower()
    return name.replace("convtranspose", "conv_transpose")


def _read_batch_norm_module(module: _BatchNorm, node: fx.Node) -> Layer | None:
    if module.running_mean is None:
        return None
    slots = [Slot(f"{node.target}.{part}", 0) for part in ("weight", "bias")]
    statistics = [Slot(f"{node.target}.{part}", 0) for part in ("running_mean", "running_var")]
    weight, bias = slots if module.affine else (None, None)
    name, count, nodes = str(node.target), len(module.running_mean), (node,)
    return Layer(name, "batch_norm", count, 1, nodes, nodes, weight, bias, tuple(statistics))


def _read_batch_norm(graph: fx.GraphModule, node: fx.Node) -> Layer | None:
    is_aten = isinstance(node.target, torch._ops.OpOverload)
    places = (3, 4, 1, 2) if is_aten else (1, 2, 3, 4)
    names = ("running_mean", "running_var", "weight", "bias")
    given = [argument(node, k, name) for k, name in zip(places, names, strict=True)]
    mean, variance = given[:2]
    if mean is None or argument(node, 5, "training", False) is True:
        return None
    for value in given:
        if value is not None and value.op != "get_attr":
            raise NoSlotError("its statistics or weights are computed")
    slots = [None if v is None else Slot(str(v.target), 0) for v in given]
    count = len(stored_value(graph, str(mean.target)))
    name = str(mean.target).removesuffix(".running_mean")
    statistics = (Slot(str(mean.target), 0), Slot(str(variance.target), 0))
    nodes = (node,)
    return Layer(name, "batch_norm", count, 1, nodes, nodes, slots[2], slots[3], statistics)


def _tensor_of(graph: fx.GraphModule, slot: Slot) -> torch.Tensor:
    found: torch.Tensor = stored_value(graph, slot.name)
    return found


def _count(graph: fx.GraphModule, slot: Slot) -> int:
    if slot.rows is not None:
        return len(slot.rows)
    return int(_tensor_of(graph, slot).shape[slot.axis]) * slot.groups


def name_of_slot(slot: Slot) -> str:
    """The name of the module whose weight it is, or of the parameter, and which rows.

    >>> name_of_slot(Slot("0.weight_orig", 0)), name_of_slot(Slot("in_proj_weight", 0, (4, 5, 6)))
    ('0', 'in_proj_weight[4:7]')
    """
    name = slot.name
    owner, _, leaf = name.rpartition(".")
    if leaf.startswith("original") and owner.endswith(".parametrizations.weight"):
        name = owner.removesuffix(".parametrizations.weight")
    elif leaf in ("weight", "weight_orig") and owner:
        name = owner
    if slot.rows is None:
        return name
    return f"{name}[{min(slot.rows)}:{max(slot.rows) + 1}]"


def _parameters_of(graph: fx.GraphModule, node: fx.Node, stored: set[fx.Node]) -> list[str]:
    leaves = (leaf for n in node.all_input_nodes if n in stored for leaf in leaves_before(n))
    found = {str(leaf.target): stored_value(graph, str(leaf.target)) for leaf in leaves}
    return [name for name, value in found.items() if isinstance(value, nn.Parameter)]


def _unread_name(graph: fx.GraphModule, node: fx.Node, stored: set[fx.Node]) -> str:
    if node.op == "call_module":
        return str(node.target)
    names = _parameters_of(graph, node, stored)
    return name_of_slot(Slot(names[0], 0)) if names else node.name


def _shared(graph: fx.GraphModule, layers: list[Layer], stored: set[fx.Node]) -> dict[str, str]:
    """The layers that do not have their weight or bias for themselves, and which it is."""
    used: dict[int, list[tuple[fx.Node, frozenset[int] | None]]] = defaultdict(list)
    for node in graph.graph.nodes:
        for tensor, rows in _uses(graph, node, layers, stored):
            used[id(tensor)].append((node, rows))
    found: dict[str, str] = {}
    for layer in layers:
        own = {*layer.calls, *layer.nodes}
        for what, slot in (("weight", layer.weight), ("bias", layer.bias)):
            if slot is None:
                continue
            mine = None if slot.rows is None else frozenset(slot.rows)
            for node, rows in used[id(_tensor_of(graph, slot))]:
                apart = mine is not None and rows is not None and not mine & rows
                if node not in own and not apart:
                    found.setdefault(layer.name, what)
    return found


def _uses(
    graph: fx.GraphModule, node: fx.Node, layers: list[Layer], stored: set[fx.Node]
) -> Iterator[tuple[Any, frozenset[int] | None]]:
    """The parameters that a node of the graph reads, and which rows, None if all."""
    if node in stored:
        return
    if node.op == "call_module":
        for parameter in _module(node).parameters():
            yield parameter, None
    slots = [
        slot
        for layer in layers
        if node in layer.calls or node in layer.nodes
        for slot in (layer.weight, layer.bias)
        if slot is not None and slot.rows is not None
    ]
    for name in _parameters_of(graph, node, stored):
        rows = [frozenset(slot.rows or ()) for slot in slots if slot.name == name]
        yield stored_value(graph, name), rows[0] if rows else None
