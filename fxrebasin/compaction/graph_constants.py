"""The constants of a graph that say how long axes are, for axes that have become shorter.

Sizes of views, bounds of slices, numbers of groups, the attributes of modules. What each has to be
follows from the shapes that values will have; a constant that no row of the tables knows stays, and
the graph then does not run, or computes something else, which is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx

from ..layouts.coordinates import regroup
from ..models.nodes import argument, name_of
from .module_attributes import adapt_module, groups_after
from .places import Places
from .plan import Plan

Shape = tuple[int, ...]


class Adapter:
    """Rewrites the constants of a graph, node by node."""

    def __init__(self, module: fx.GraphModule, places: Places, plan: Plan) -> None:
        self.module, self.places, self.plan = module, places, plan
        self.guessed: dict[str, Shape] = {}
        """Of values that nothing is known of, as far as those before them tell."""
        self._new: dict[str, Shape | None] = {}

    def run(self) -> None:
        """Rewrite the graph in place.

        Raises:
            NotABoxError: a constant cannot be chosen so that the graph computes what is left.
        """
        done: set[int] = set()
        for node in self.module.graph.nodes:
            if node.op == "call_module":
                module = self.module.get_submodule(str(node.target))
                if id(module) not in done:
                    done.add(id(module))
                    adapt_module(module, self._new_input(node), self.new(node))
            elif node.op in ("call_function", "call_method"):
                rewrite = REWRITES.get(name_of(node))
                if rewrite is not None and self._changes(node):
                    rewrite(self, node)
        self.module.recompile()

    def old(self, node: fx.Node) -> Shape | None:
        return self.places.shapes.get(node.name)

    def new(self, node: fx.Node) -> Shape | None:
        if node.name not in self._new:
            self._new[node.name] = self.places.shape(node.name, self.plan)
        return self._new[node.name]

    def _new_input(self, node: fx.Node) -> Shape | None:
        return self.new(node.args[0]) if node.args and isinstance(node.args[0], fx.Node) else None

    def _changes(self, node: fx.Node) -> bool:
        """Does a tensor that it takes or gives become shorter, as far as is known?"""
        near = [node, *node.all_input_nodes, *node.users]
        return any(self.new(n) != self.old(n) for n in near)


def give(node: fx.Node, place: int, name: str, value: Any) -> None:
    """Put another value in the place of an argument, or add it by name."""
    if place < len(node.args):
        node.update_arg(place, value)
    else:
        node.update_kwarg(name, value)


def _sized(first: int, name: str) -> Callable[[Adapter, fx.Node], None]:
    """An op that is told the shape of its result: as one argument, or as all from there on."""

    def rewrite(adapter: Adapter, node: fx.Node) -> None:
        shape = adapter.new(node) or _guess(adapter, node)
        if shape is None:
            return
        sizes = argument(node, first, name)
        if isinstance(sizes, (list, tuple)):
            give(node, first, name, _sizes(sizes, shape))
        elif len(node.args) - first == len(shape):
            node.args = (*node.args[:first], *_sizes(node.args[first:], shape))

    return rewrite


def _sizes(given: Sequence[Any], shape: Shape) -> list[Any]:
    """Sizes that were given as numbers, as they are now; the others follow by themselves."""
    return [
        n if isinstance(size, int) and size != -1 else size
        for size, n in zip(given, shape, strict=True)
    ]


def _guess(adapter: Adapter, node: fx.Node) -> Shape | None:
    """The shape of a result that nothing is known of, where it keeps or merges dims."""
    source = node.args[0]
    if not isinstance(source, fx.Node):
        return None
    before, now, result = adapter.old(source), adapter.new(source), adapter.old(node)
    now = now or adapter.guessed.get(source.name)
    if before is None or now is None or result is None:
        return None
    if name_of(node) in ("expand", "broadcast_to"):
        lead = len(result) - len(before)
        shape = result[:lead] + tuple(
            new if old == n else n for old, new, n in zip(before, now, result[lead:], strict=True)
        )
    else:
        merged = _merge(before, now, result)
        if merged is None:
            return None
        shape = merged
    adapter.guessed[node.name] = shape
    return shape


def _unflatten(adapter: Adapter, node: fx.Node) -> None:
    shape, before = adapter.new(node), adapter.old(node.all_input_nodes[0])
    sizes, dim = argument(node, 2, "sizes"), argument(node, 1, "dim")
    if shape is None or before is None or not isinstance(sizes, (list, tuple)):
        return
    dim %= len(before)
    give(node, 2, "sizes", _sizes(sizes, shape[dim : dim + len(sizes)]))


def _slice(adapter: Adapter, node: fx.Node) -> None:
    dim = argument(node, 1, "dim", 0)
    move = _mover(adapter, node.all_input_nodes[0], dim)
    for place, name in ((2, "start"), (3, "end")):
        bound = argument(node, place, name)
        if isinstance(bound, int):
            give(node, place, name, move(bound))


def _narrow(adapter: Adapter, node: fx.Node) -> None:
    dim, start, length = (
        argument(node, k, name) for k, name in ((1, "dim"), (2, "start"), (3, "length"))
    )
    move = _mover(adapter, node.all_input_nodes[0], dim)
    if isinstance(start, int) and isinstance(length, int):
        give(node, 2, "start", move(start))
        give(node, 3, "length", move(start + length) - move(start))


def _select(adapter: Adapter, node: fx.Node) -> None:
    dim, index = argument(node, 1, "dim"), argument(node, 2, "index")
    if isinstance(index, int):
        give(node, 2, "index", _mover(adapter, node.all_input_nodes[0], dim)(index))


def _getitem(adapter: Adapter, node: fx.Node) -> None:
    """``x[..., a:b]``, read or written; of a tuple, as a split gives, nothing changes."""
    source, index = node.args[:2]
    if not isinstance(source, fx.Node) or adapter.old(source) is None:
        return
    shape = adapter.old(source)
    assert shape is not None
    items = index if isinstance(index, tuple) else (index,)
    whole = sum(1 for i in items if i is not None and i is not Ellipsis)
    found: list[Any] = []
    dim = 0
    for item in items:
        if item is Ellipsis:
            dim += len(shape) - whole
        elif isinstance(item, (slice, int)) and not isinstance(item, bool):
            found.append(_moved_item(item, _mover(adapter, source, dim)))
            dim += 1
            continue
        elif item is not None:
            dim += 1
        found.append(item)
    node.update_arg(1, tuple(found) if isinstance(index, tuple) else found[0])


def _moved_item(item: slice | int, move: Callable[[int], int]) -> slice | int:
    if isinstance(item, int):
        return move(item)
    start, stop = (move(b) if isinstance(b, int) else b for b in (item.start, item.stop))
    return slice(start, stop, item.step)


def _mover(adapter: Adapter, source: fx.Node, dim: int) -> Callable[[int], int]:
    """From a place along a dim of a value to that place among those that are left."""
    shape = adapter.old(source)
    kept = adapter.places.kept(source.name, adapter.plan)
    if shape is None or kept is None or dim % len(shape) not in kept:
        return lambda place: place
    n, left = shape[dim % len(shape)], kept[dim % len(shape)]

    def move(place: int) -> int:
        if place >= n:
            return place
        return int((left < (place + n if place < 0 else place)).sum())

    return move


def _split(adapter: Adapter, node: fx.Node) -> None:
    """Parts may now be of different lengths: they are listed."""
    is_chunk = name_of(node) in ("chunk", "unsafe_chunk")
    dim = argument(node, 2, "dim", 0)
    lengths = {}
    for user in node.users:
        shape = adapter.new(user)
        if name_of(user) == "getitem" and isinstance(user.args[1], int) and shape is not None:
            lengths[user.args[1]] = shape[dim]
    listed = [lengths[k] for k in sorted(lengths)]
    if not listed or sorted(lengths) != list(range(len(listed))):
        return
    if len(set(listed)) == 1 and is_chunk:
        return
    if len(set(listed)) == 1 and isinstance(argument(node, 1, "split_size"), int):
        give(node, 1, "split_size", listed[0])
        return
    if node.op == "call_method":
        node.target = "split"
    else:
        exported = isinstance(node.target, torch._ops.OpOverload)
        node.target = torch.ops.aten.split_with_sizes.default if exported else torch.split
    node.args, node.kwargs = (node.args[0], listed, dim), {}


def _convolution(place: int, *, transposed: bool = False) -> Callable[[Adapter, fx.Node], None]:
    def rewrite(adapter: Adapter, node: fx.Node) -> None:
        weight, given = argument(node, 1, "weight"), argument(node, 0, "input")
        new, source = adapter.new(weight), adapter.new(node if transposed else given)
        if new is None or source is None or argument(node, place, "groups", 1) == 1:
            return
        channels = source[len(source) - len(new) + 1]
        give(node, place, "groups", channels // new[1])

    return rewrite


def _group_norm(adapter: Adapter, node: fx.Node) -> None:
    source = node.args[0]
    assert isinstance(source, fx.Node)
    before, now, groups = adapter.old(source), adapter.new(source), argument(node, 1, "num_groups")
    if before is not None and now is not None and isinstance(groups, int):
        give(node, 1, "num_groups", groups_after(groups, before[1], now[1]))


def _normalized(adapter: Adapter, node: fx.Node) -> None:
    shape, given = adapter.new(node), argument(node, 1, "normalized_shape")
    if shape is not None and isinstance(given, (list, tuple)):
        give(node, 1, "normalized_shape", _sizes(given, shape[len(shape) - len(given) :]))


def _attention(adapter: Adapter, node: fx.Node) -> None:
    """The scale that it takes by itself is that of the length that queries had."""
    query = argument(node, 0, "query")
    before, now = adapter.old(query), adapter.new(query)
    if before is None or now is None or before[-1] == now[-1]:
        return
    if node.kwargs.get("scale") is None:
        node.update_kwarg("scale", before[-1] ** -0.5)


def _merge(before: Shape, now: Shape, result: Shape) -> Shape | None:
    shape = list(result)
    for old, new in regroup(before, result):
        sizes, left = [before[d] for d in old], [now[d] for d in old]
        if sizes != left:
            if len(new) != 1:
                return None
            shape[new[0]] = int(torch.Size(left).numel())
    return tuple(shape)


REWRITES: Mapping[str, Callable[[Adapter, fx.Node], None]] = {
    **dict.fromkeys(("view", "reshape", "unsafe_view"), _sized(1, "shape")),
    **dict.fromkeys(("expand", "broadcast_to"), _sized(1, "size")),
    **dict.fromkeys(("new_zeros", "new_ones", "new_full", "new_empty"), _sized(1, "size")),
    **dict.fromkeys(("zeros", "ones", "full", "empty"), _sized(0, "size")),
    "unflatten": _unflatten,
    "slice": _slice,
    "narrow": _narrow,
    "select": _select,
    "getitem": _getitem,
    "setitem": _getitem,
    **dict.fromkeys(("split", "split_with_sizes", "chunk"), _split),
    **dict.fromkeys(("unsafe_split", "unsafe_split_with_sizes", "unsafe_chunk"), _split),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolution(6)),
    **{f"conv_transpose{n}d": _convolution(6, transposed=True) for n in (1, 2, 3)},
    "group_norm": _group_norm,
    "layer_norm": _normalized,
    "rms_norm": _normalized,
    "scaled_dot_product_attention": _attention,
}
