"""How many layers lie between the inputs of a network and a bias of it.

A network of linear layers and rectifiers is homogeneous: with every weight ``t`` times what it was,
and the bias of height ``h`` (the number of layers up to its own) ``t^h`` times, the network makes
``t^L`` times what it made. How the values of a graph scale is followed op by op here; of values
that do not scale by a power of ``t``, such as sums of branches of different heights, no height is
known, and normalisation begins anew.

>>> from torch import fx, nn
>>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 3), nn.Sigmoid(), nn.Linear(3, 1))
>>> heights_of(fx.symbolic_trace(net))
({'0.bias': 1, '2.bias': 2}, {'4': "there is no height after 'sigmoid'"})
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import fx, nn

from ..models.nodes import name_of
from .channels import KEEPS, MOVES, Slot, leaves_before, stored_value
from .layers import ADDS, Layer, find_layers, stored_nodes

HOMOGENEOUS = frozenset(
    [
        *("relu", "relu_", "leaky_relu", "leaky_relu_", "threshold", "neg", "abs"),
        *("mean", "sum", "amax", "amin", "max", "min", "roll", "flip", "pad", "constant_pad_nd"),
        *(f"{kind}_pool{n}d" for kind in ("max", "avg", "lp") for n in (1, 2, 3)),
        *(f"adaptive_{kind}_pool{n}d" for kind in ("max", "avg") for n in (1, 2, 3)),
        *("upsample_nearest2d", "upsample_bilinear2d", "interpolate", "channel_shuffle"),
        *("pixel_shuffle", "pixel_unshuffle", "repeat", "expand", "repeat_interleave"),
    ]
)
"""Functions of one value that make ``t`` times what they made of ``t`` times that."""

NORMS = frozenset(("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"))
"""What makes the same of ``t`` times a value, scaled by a weight."""

SUMS = frozenset((*ADDS, "sub", "isub", "sub_"))
JOINS = frozenset((*SUMS, "cat", "concat", "stack", "maximum", "minimum"))
"""Functions of several values that are homogeneous if all of these are of the same height."""

PRODUCTS = frozenset(("mul", "imul", "mul_", "matmul", "bmm"))
SCALES = frozenset(("mul", "div", "imul", "itruediv", "truediv", "mul_", "div_"))

Height = int | str
"""The power of ``t``, or the name of the op after which there is none."""


def heights_of(graph: fx.GraphModule) -> tuple[dict[str, int], dict[str, str]]:
    """The height of every bias, by its name; and the layers whose bias has none, with the reason.

    Args:
        graph: of ATen ops, functions, methods or modules.
    """
    stored = stored_nodes(graph)
    layers, left = find_layers(graph)
    calls = {node: layer for layer in layers for node in layer.calls}
    results = {node: layer for layer in layers for node in layer.nodes}
    known: dict[fx.Node, Height] = {}
    found: dict[Slot, set[Height]] = {}
    for node in graph.graph.nodes:
        given = [n for n in node.all_input_nodes if n not in stored]
        if node.op in ("output", "get_attr") or node in stored:
            continue
        if node in calls and calls[node].kind != "batch_norm":
            known[node] = _above(known[given[0]])
        elif node in results and results[node].kind != "batch_norm":
            known[node] = known[given[0]]  # the sum with a bias that is stored apart
        else:
            known[node] = _height(graph, node, {n: known[n] for n in given}, stored)
        layer = results.get(node)
        if layer is not None and layer.bias is not None:
            found.setdefault(layer.bias, set()).add(known[node])
    return _single(layers, found, left)


def _single(
    layers: list[Layer], found: Mapping[Slot, set[Height]], left: dict[str, str]
) -> tuple[dict[str, int], dict[str, str]]:
    heights: dict[str, int] = {}
    reasons: dict[str, str] = {}
    for layer in layers:
        if layer.bias is None:
            continue
        several = found[layer.bias]
        (height, *more) = several
        if more:
            reasons[layer.name] = "it is called at several heights"
        elif isinstance(height, str):
            reasons[layer.name] = f"there is no height after {height!r}"
        elif heights.setdefault(layer.bias.name, height) != height:
            reasons[layer.name] = "parts of its bias have several heights"
    return heights, {**left, **reasons}


def _above(height: Height) -> Height:
    return height + 1 if isinstance(height, int) else height


def _height(
    graph: fx.GraphModule, node: fx.Node, given: Mapping[fx.Node, Height], stored: set[fx.Node]
) -> Height:
    op, heights = _op(graph, node), [*given.values()]
    unknown = [height for height in heights if isinstance(height, str)]
    if not heights:
        return 0  # an input, or a constant
    if op in NORMS:
        return 1
    if unknown:
        return unknown[0]
    powers = [height for height in heights if isinstance(height, int)]
    weighed = _has_parameters(graph, node, stored)
    if op in HOMOGENEOUS or op in KEEPS or op in MOVES:
        return op if weighed or len(powers) > 1 else powers[0]
    if op in JOINS:
        numbers = [a for a in node.args if isinstance(a, (int, float))]
        constants = set(node.all_input_nodes) & stored or (op in SUMS and numbers)
        return op if constants or len(set(powers)) > 1 else powers[0]
    if op in SCALES and len(powers) == 1:
        return powers[0] + int(weighed) if op != "div" or not weighed else op
    if op in PRODUCTS and len(powers) == 2:
        return sum(powers)
    return op


def _op(graph: fx.GraphModule, node: fx.Node) -> str:
    """What an op is called; a module by the function that it stands for."""
    if node.op != "call_module":
        return name_of(node)
    module = graph.get_submodule(str(node.target))
    for kind, name in MODULES.items():
        if isinstance(module, kind):
            return name
    return type(module).__name__


MODULES: Mapping[type[nn.Module] | tuple[type[nn.Module], ...], str] = {
    (nn.ReLU, nn.LeakyReLU, nn.Flatten, nn.Unflatten, nn.Upsample): "relu",
    (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d): "max_pool2d",
    (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d): "avg_pool2d",
    (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d): "adaptive_avg_pool2d",
    (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d): "adaptive_max_pool2d",
    (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Identity): "dropout",
    (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm): "batch_norm",
    (nn.LayerNorm, nn.RMSNorm): "layer_norm",
    nn.GroupNorm: "group_norm",
    nn.Sigmoid: "sigmoid",
}


def _has_parameters(graph: fx.GraphModule, node: fx.Node, stored: set[fx.Node]) -> bool:
    if node.op == "call_module":
        return any(True for _ in graph.get_submodule(str(node.target)).parameters())
    leaves = (leaf for n in node.all_input_nodes if n in stored for leaf in leaves_before(n))
    return any(isinstance(stored_value(graph, str(x.target)), nn.Parameter) for x in leaves)
