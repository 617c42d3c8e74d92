"""Reading at places that the input decides.

What such a place holds depends on the order along the axes it is chosen on, so units there are
pinned, unless the numbers that choose name the units themselves (see ``order``); along all other
axes the units go through as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..layouts.adoption import resolve
from ..layouts.causes import PinKind
from ..layouts.coordinates import Shape, collapse, positional, varies_on
from ..layouts.ids import Ids
from ..layouts.layout import Layout
from ..layouts.primitives import as_tensor
from . import movement
from .call import Call
from .ordering import names_along, read

CHOSEN = "is indexed by values that depend on the input"


def gather(call: Call, x: Layout, dim: int, index: Layout, **kwargs: Any) -> Layout:
    """``x[..., index[..., j, ...], ...]``, at the other dimensions' own places."""
    dim = dim % max(x.ndim, 1)
    read(call, x)
    parameter, x = x, resolve(call.units, x)
    places = index.value
    if places is not None and _is_constant(index) and x.value is None and x.ndim:
        moved = [
            collapse(as_tensor(c).expand(x.shape).gather(dim, places.cpu()).numpy())
            if dim in varies_on(c)
            else _narrowed(c, call.shape)
            for c in x.coordinates
        ]
        return _without_the_rest(call, parameter, Layout(call.shape, tuple(moved)))
    rest = _picked(call, x, (dim,), index)
    kept = [_narrowed(c, call.shape) for c in rest.coordinates]
    chosen = Layout(call.shape, resolve(call.units, index).coordinates)
    return call.merge(Layout(call.shape, tuple(kept)), chosen)


def index(call: Call, x: Layout, indices: Sequence[Layout | None]) -> Layout:
    given = [i for i in indices if i is not None]
    read(call, x, *(given if len(given) > 1 else ()))
    if x.value is None and all(map(_is_constant, given)):
        return _without_the_rest(call, x, movement.index(call, x, indices))
    dims, at, width = _indexed(x.shape, indices, call.shape)
    return _chosen(call, x, dims, given, at, width)


def index_select(call: Call, x: Layout, dim: int, index: Layout) -> Layout:
    read(call, x)
    if x.value is None and _is_constant(index):
        return _without_the_rest(call, x, movement.index_select(call, x, dim, index))
    return _chosen(call, x, [dim % x.ndim], [index], dim % x.ndim, 1)


def embedding(call: Call, weight: Layout, index: Layout, *args: Any, **kwargs: Any) -> Layout:
    """A row per number; rows stay, unless the numbers were found among the very units they are."""
    if index.order_of is None:
        return call.signature("_ d, ... -> ... d", weight, index)
    return _chosen(call, weight, [0], [index], 0, index.ndim)


def embedding_bag(
    call: Call, weight: Layout, index: Layout, offsets: Layout, *args: Any, **kwargs: Any
) -> list[Layout]:
    """Rows that are chosen, and summed bag by bag; what is returned beside them counts rows."""
    others = [x for x in (*args, *kwargs.values()) if isinstance(x, Layout)]
    bags = _chosen(call, weight, [0], [index, offsets, *others], 0, 1)
    return [
        Layout(shape, bags.coordinates)
        if shape == call.shape  # also the rows that are the largest, feature by feature
        else Layout(shape, tuple(positional(call.units, shape)))
        for shape in call.shapes
    ]


def _chosen(
    call: Call, x: Layout, dims: Sequence[int], given: list[Layout], at: int, width: int
) -> Layout:
    """The entries of ``x`` at chosen places, which are ``width`` dims of the result from ``at``."""
    for i in given:
        call.pin(i, CHOSEN)
    rest = _picked(call, resolve(call.units, x), tuple(dims), given[0])
    new = range(at, at + width)
    kept = [spread(c.squeeze(tuple(dims)), new) for c in rest.coordinates]
    return Layout(call.shape, (*kept, *positional(call.units, call.shape, tuple(new))))


def _indexed(
    shape: Shape, indices: Sequence[Layout | None], result: Shape
) -> tuple[list[int], int, int]:
    """The dims that are indexed, where the chosen places lie in the result, and on how many dims.

    A mask stands for as many dims as it has; what tells it from a tensor of integers is how many
    dims the result has.
    """
    given = [i for i in indices if i is not None]
    width = np.broadcast(*(np.empty(i.shape) for i in given)).ndim
    masks = len(result) != len(shape) - len(given) + width
    dims: list[int] = []
    d = 0
    for i in indices:
        taken = i.ndim if i is not None and masks else 1
        if i is not None:
            dims += range(d, d + taken)
        d += taken
    adjacent = dims[-1] - dims[0] == len(dims) - 1
    return dims, dims[0] if adjacent else 0, len(result) - len(shape) + len(dims)


def _picked(call: Call, x: Layout, dims: tuple[int, ...], index: Layout) -> Layout:
    """What is the same wherever along ``dims`` the entries of ``x`` are picked.

    Where the numbers of ``index`` name units, the entries that are picked are those units' own.
    """
    named = names_along(call, index, x.ndim, dims[0], x.shape[dims[0]]) if len(dims) == 1 else None
    if named is None:
        read(call, index)
        return beside(call, x, dims)
    met = call.merge(x, named)
    alone = [c for c in met.coordinates if varies_on(c) != dims]
    return beside(call, Layout(met.shape, tuple(alone)), dims)


def beside(call: Call, x: Layout, dims: tuple[int, ...]) -> Layout:
    """What a layout says along all dims but ``dims``, where every place is its own."""
    x = resolve(call.units, x)
    told_apart = call.merge(x, Layout(x.shape, tuple(positional(call.units, x.shape, dims))))
    return Layout(x.shape, call.reduce(told_apart, dims, keepdim=True).coordinates)


def _without_the_rest(call: Call, x: Layout, chosen: Layout) -> Layout:
    """Entries of a parameter that the example inputs leave out stay in place: others need not."""
    if x.parameter is not None:
        units = call.units
        kept = [units.find(c).ravel() for c in chosen.coordinates]
        used = np.concatenate([*kept, np.empty(0, np.int64)])
        for c in resolve(units, x).coordinates:
            ids = np.unique(units.find(c))
            if np.isin(ids, used).any():
                text = "is not used by the example inputs"
                units.pin(ids[~np.isin(ids, used)], text, PinKind.UNUSED)
    return chosen


def _is_constant(index: Layout) -> bool:
    """Is an index the same whatever the input? An empty one is only empty for this input."""
    return index.value is not None and 0 not in index.shape


def _narrowed(coordinate: Ids, shape: Shape) -> Ids:
    return coordinate[tuple(slice(max(n, 1)) for n in shape)]


def spread(coordinate: Ids, dims: Sequence[int]) -> Ids:
    """Insert dims of size 1, at their places in the result."""
    for d in sorted(dims):
        coordinate = np.expand_dims(coordinate, d)
    return coordinate
