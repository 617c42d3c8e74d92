"""Where in a graph statistics can be put right, and which stored tensors that takes.

There are three kinds of places. The result of a *layer*, linear or a convolution, is corrected in
its weight and bias. *BatchNorm* corrects what it is given by itself once its running statistics are
measured, so what is before it is left to it. The *sum* of two branches is corrected in both of the
layers that feed it, where nothing else reads these. Nothing here knows of any model: all is found
on the graph, and of what is left alone it is said why.

>>> from torch import fx, nn
>>> norm, last = nn.BatchNorm1d(4), nn.Linear(4, 2)
>>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 4), norm, last)
>>> found = find_places(fx.symbolic_trace(net))
>>> [(place.name, place.kind) for place in found.places]
[('0', 'linear'), ('3', 'batch_norm')]
>>> found.left
{'2': 'BatchNorm follows', '4': 'its result is what the model returns'}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from torch import fx

from ..models.nodes import name_of
from .channels import Slot
from .layers import ADDS, Layer, find_layers, is_kept, stored_nodes


@dataclass(frozen=True)
class Target:
    """The stored tensors that a scale and a shift of channels go into."""

    weight: Slot
    bias: Slot | None = None


@dataclass(frozen=True)
class Place:
    """Something whose statistics per channel can be put right."""

    name: str
    """That of the module or parameter, the same in all models that are compared."""
    kind: str
    """``"batch_norm"``, ``"sum"``, or the op of a layer."""
    channels: int
    axis: int
    """That of the channels; of layers counted from the last."""
    nodes: tuple[fx.Node, ...]
    """The values that are measured; more than one where a module is called several times."""
    targets: tuple[Target, ...]
    """What takes the correction; of BatchNorm, its running mean and variance."""
    shifted: Target | None = None
    """The layer that takes the shift of one without bias, as nothing lies between the two."""
    level: int = 0
    """How many places the longest way from the inputs to this one goes through."""

    @property
    def can_shift(self) -> bool:
        return self.shifted is not None or any(t.bias is not None for t in self.targets)


@dataclass(frozen=True)
class Found:
    """The places of a graph in the order in which they are computed."""

    places: tuple[Place, ...]
    left: Mapping[str, str] = field(default_factory=dict)
    """What is left alone, by name, and why."""

    @property
    def by_node(self) -> dict[fx.Node, Place]:
        return {node: place for place in self.places for node in place.nodes}


def find_places(graph: fx.GraphModule) -> Found:
    """Find everything in a graph whose statistics can be put right.

    Args:
        graph: of ATen ops, functions, methods or modules.
    """
    layers, left = find_layers(graph)
    stored = stored_nodes(graph)
    norms = [p for p in layers if p.kind == "batch_norm"]
    is_norm = {node for norm in norms for node in norm.nodes}
    places = [_place_of(norm) for norm in norms]
    for layer in layers:
        if layer.kind == "batch_norm":
            continue
        if all(_is_normalised(node, is_norm) for node in layer.nodes):
            left[layer.name] = "BatchNorm follows"
        elif any(_is_returned(node, stored) for node in layer.nodes):
            left[layer.name] = "its result is what the model returns"
        else:
            places.append(_place_of(layer, _reader_of(layer, layers)))
    sums, single = _find_sums(graph, layers, {p.name for p in places}, stored)
    return Found(tuple(_in_order(graph, [*places, *sums])), {**left, **single})


def _place_of(layer: Layer, shifted: Target | None = None) -> Place:
    if layer.kind == "batch_norm":
        targets = (Target(*layer.statistics),)
    else:
        assert layer.weight is not None
        targets = (Target(layer.weight, layer.bias),)
    return Place(layer.name, layer.kind, layer.channels, layer.axis, layer.nodes, targets, shifted)


def readers(node: fx.Node) -> Iterator[fx.Node]:
    """What reads a value, as it is or after ops that keep it."""
    for user in node.users:
        if is_kept(user):
            yield from readers(user)
        else:
            yield user


def _is_normalised(node: fx.Node, norms: set[fx.Node]) -> bool:
    found = list(readers(node))
    return bool(found) and all(user in norms for user in found)


def _is_returned(node: fx.Node, stored: set[fx.Node]) -> bool:
    """Does a value become an output with nothing between that has weights, or meets another?"""
    seen, stack = {node}, [node]
    while stack:
        for user in stack.pop().users:
            if user.op == "output":
                return True
            if user not in seen and _is_alone(user, stored):
                seen.add(user)
                stack.append(user)
    return False


def _is_alone(node: fx.Node, stored: set[fx.Node]) -> bool:
    inputs = node.all_input_nodes
    if node.op == "call_module":
        module = node.graph.owning_module.get_submodule(str(node.target))  # type: ignore[union-attr]
        if next(module.parameters(), None) is not None:
            return False
    is_listed = bool(node.args) and isinstance(node.args[0], (list, tuple))  # cat and stack
    return not stored & set(inputs) and (len(inputs) == 1 or is_listed)


def _reader_of(layer: Layer, layers: list[Layer]) -> Target | None:
    """The one linear layer that reads a layer without bias, if it can take its shift."""
    if layer.bias is not None or layer.axis != -1 or len(layer.nodes) != 1:
        return None
    (reader, *more) = [*readers(layer.nodes[0]), None]
    for other in layers:
        is_linear = other.kind == "linear" and other.is_plain
        if more == [None] and other.calls == (reader,) and is_linear and other.bias is not None:
            assert other.weight is not None
            return Target(other.weight, other.bias)
    return None


def _find_sums(
    graph: fx.GraphModule, layers: list[Layer], known: set[str], stored: set[fx.Node]
) -> tuple[list[Place], dict[str, str]]:
    """The sums of two values that are computed from the inputs, and why others are left alone."""
    feeding = {node: layer for layer in layers if layer.name in known for node in layer.nodes}
    places: list[Place] = []
    left: dict[str, str] = {}
    for node in graph.graph.nodes:
        if not _adds(node) or set(node.all_input_nodes) & stored or node in feeding:
            continue
        fed = [_feeder(branch, feeding) for branch in node.all_input_nodes]
        given = [layer for layer in fed if layer is not None]
        alike = {(layer.channels, layer.axis) for layer in given}
        if _is_returned(node, stored):
            left[f"{node.name} (sum)"] = "its result is what the model returns"
        elif len(given) < 2 or len(alike) > 1:
            left[f"{node.name} (sum)"] = "not both of what it adds can be scaled"
        else:
            ((channels, axis),) = alike
            targets = tuple(Target(x.weight, x.bias) for x in given if x.weight is not None)
            name = " + ".join(layer.name for layer in given)
            places.append(Place(name, "sum", channels, axis, (node,), targets))
    return places, left


def _adds(node: fx.Node) -> bool:
    is_sum = node.op in ("call_function", "call_method") and name_of(node) in ADDS
    is_plain = len(node.args) == 2 and not node.kwargs
    return is_sum and is_plain and len(node.all_input_nodes) == 2


def _feeder(branch: fx.Node, feeding: Mapping[fx.Node, Layer]) -> Layer | None:
    """The layer whose result a branch is, if nothing else reads it and it has weights."""
    while branch not in feeding and is_kept(branch) and len(branch.users) == 1:
        (branch,) = branch.all_input_nodes
    layer = feeding.get(branch)
    alone = layer is not None and len(branch.users) == 1 and len(layer.nodes) == 1
    return layer if alone and layer is not None and layer.weight is not None else None


def _in_order(graph: fx.GraphModule, places: list[Place]) -> list[Place]:
    """In the order in which they are complete, each with its level."""
    by_node: dict[fx.Node, list[Place]] = {}
    for place in places:
        for node in place.nodes:
            by_node.setdefault(node, []).append(place)
    depth: dict[fx.Node, int] = {}
    level: dict[str, int] = {}
    order: dict[str, Place] = {}
    for node in graph.graph.nodes:
        depth[node] = max((depth[n] for n in node.all_input_nodes), default=0)
        for place in by_node.get(node, ()):
            level[place.name] = max(level.get(place.name, 0), depth[node])
            order.pop(place.name, None)
            order[place.name] = place
            depth[node] += 1
    return [replace(place, level=level[name]) for name, place in order.items()]
