"""Reading at positions that the input decides.

What such a position holds depends on the order along the axes that are indexed, so units there are
pinned, unless the numbers of the index stand for the units themselves (see ``ordering``). Along
all other axes the units go through as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch

from ..layouts.coordinates import Shape, varies_on
from ..layouts.layout import Layout
from . import movement
from .call import Call
from .ordering import pin_indexed, units_along
from .reduction import reduce_in_order

BY_VALUES = "is indexed by values that depend on the input"
UNUSED = "is not used by the example inputs"


def gather(call: Call, x: Layout, dim: int, index: Layout, **kwargs: Any) -> Layout:
    """``x[..., index[..., j, ...], ...]``, at the other dims' own positions."""
    dim = dim % max(x.ndim, 1)
    pin_indexed(call, x)
    constant = _constant_index(index)
    if constant is not None and x.value is None and x.ndim:
        return _pin_unused(call, x, movement.gather(call, x, dim, constant))
    rest = _pick(call, x, (dim,), index)
    (kept,) = call.move(rest, lambda t: t[tuple(slice(max(n, 1)) for n in call.shape)])
    return call.merge(kept, call.resolve(index))


def index(call: Call, x: Layout, indices: Sequence[Layout | None]) -> Layout:
    given = [i for i in indices if i is not None]
    pin_indexed(call, x, *(given if len(given) > 1 else ()))
    constants = [None if i is None else _constant_index(i) for i in indices]
    if x.value is None and sum(c is not None for c in constants) == len(given):
        return _pin_unused(call, x, movement.index(call, x, constants))
    dims, at, width = _places_of(x.shape, indices, call.shape)
    return _pick_to(call, x, dims, given, range(at, at + width))


def index_select(call: Call, x: Layout, dim: int, index: Layout) -> Layout:
    pin_indexed(call, x)
    dim = dim % x.ndim
    constant = _constant_index(index)
    if x.value is None and constant is not None:
        return _pin_unused(call, x, movement.index_select(call, x, dim, constant))
    return _pick_to(call, x, [dim], [index], [dim])


def take(call: Call, x: Layout, places: Layout) -> Layout:
    """``x.flatten()[places]``."""
    return index(call, x.reshape((prod(x.shape),)), [places])


def nll_loss(
    call: Call, x: Layout, target: Layout, weight: Layout | None, *args: Any
) -> list[Layout]:
    """The class that is the target is chosen, and what is chosen may be summed."""
    call.pin(target, BY_VALUES)
    if weight is not None:
        call.pin(weight, BY_VALUES)
    dim = min(x.ndim - 1, 1)
    (chosen,) = call.move(reduce_in_order(call, x, [dim]), lambda t: t.squeeze(dim))
    met = call.merge(chosen, target)
    if met.shape != call.shape:
        met = call.reduce(met, range(met.ndim))
    return [met, *(Layout(shape) for shape in call.shapes[1:])]


def embedding(call: Call, weight: Layout, index: Layout, *args: Any, **kwargs: Any) -> Layout:
    """A row per number. Rows cannot move, except where the numbers stand for units of theirs."""
    if index.order_of is None:
        return call.signature("_ d, ... -> ... d", weight, index)
    return _pick_to(call, weight, [0], [index], range(index.ndim))


def embedding_renorm(call: Call, weight: Layout, index: Layout, *args: Any) -> Layout:
    """The rows of the numbers that occur are scaled, each by its norm."""
    scaled = call.merge(weight, call.reduce(weight, [1], keepdim=True))
    return call.merge(scaled, call.positions(weight.shape, [0]))


def embedding_bag(
    call: Call, weight: Layout, index: Layout, offsets: Layout, *args: Any, **kwargs: Any
) -> list[Layout]:
    """Rows that are chosen and summed, bag by bag; the other results count rows."""
    others = [x for x in (*args, *kwargs.values()) if isinstance(x, Layout)]
    bags = _pick_to(call, weight, [0], [index, offsets, *others], [0])
    return [
        Layout(shape, bags.coordinates)
        if shape == call.shape  # also the rows that are the largest, feature by feature
        else call.positions(shape)
        for shape in call.shapes
    ]


def _pick_to(
    call: Call, x: Layout, dims: Sequence[int], indices: list[Layout], to: Sequence[int]
) -> Layout:
    """The entries of ``x`` at indices of ``dims``, which become the dims ``to`` of the result."""
    for i in indices:
        call.pin(i, BY_VALUES)
    rest = _pick(call, x, tuple(dims), indices[0])
    (kept,) = call.move(rest, lambda t: insert_dims(t.squeeze(tuple(dims)), to))
    return call.merge(kept, call.positions(call.shape, to))


def _pick(call: Call, x: Layout, dims: tuple[int, ...], index: Layout) -> Layout:
    """What ``x`` is along its other dims, wherever it is indexed along ``dims``, here of size 1.

    Where the numbers of ``index`` stand for units, what is picked belongs to just these units.
    """
    x = call.resolve(x)
    named = units_along(call, index, x.ndim, dims[0], x.shape[dims[0]]) if len(dims) == 1 else None
    if named is None:
        pin_indexed(call, index)
        return reduce_in_order(call, x, dims)
    met = call.merge(x, named)
    others = tuple(c for c in met.coordinates if varies_on(c) != dims)
    return reduce_in_order(call, Layout(met.shape, others), dims)


def _places_of(
    shape: Shape, indices: Sequence[Layout | None], result: Shape
) -> tuple[list[int], int, int]:
    """The dims that are indexed, and those that the result has in their place: first and number.

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


def _constant_index(index: Layout) -> torch.Tensor | None:
    """An index that is the same whatever the input; an empty one is only empty for this input."""
    return None if 0 in index.shape else index.value


def _pin_unused(call: Call, x: Layout, chosen: Layout) -> Layout:
    """Other inputs may use the entries of a parameter that the example inputs leave out."""
    if x.parameter is not None:
        call.pin_unused(x, chosen, UNUSED)
    return chosen


def insert_dims(t: torch.Tensor, dims: Sequence[int]) -> torch.Tensor:
    """Insert dims of size 1, named by where they lie in the result."""
    for d in sorted(dims):
        t = t.unsqueeze(d)
    return t
