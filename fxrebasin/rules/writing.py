"""Writing at positions that the input decides: what is written meets what is there.

Along the axes that are written at, units are pinned, unless the numbers of the index stand for the
units themselves (see ``ordering``).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch

from ..layouts.coordinates import varies_on
from ..layouts.layout import Layout
from .call import Call
from .indexing import BY_VALUES, insert_dims
from .ordering import pin_indexed, units_along
from .reduction import reduce_in_order


def index_put(
    call: Call,
    x: Layout,
    indices: Sequence[Layout | None],
    values: Layout,
    accumulate: bool = False,
    unsafe: bool = False,
) -> Layout:
    """What is written meets what is there, except along the axes it is written at."""
    given = [i for i in indices if i is not None]
    for i in given:
        call.pin(i, BY_VALUES)
    shape = np.broadcast_shapes(*(i.shape for i in given))
    dims = [d for d, i in enumerate(indices) if i is not None]
    if len(given) == 1 and _may_be_mask(x, given[0], dims[0]):
        return _put_at_mask(call, x, given[0], values, dims[0])
    at = dims[0] if dims[-1] - dims[0] == len(dims) - 1 else 0
    full = (*(n for d, n in enumerate(x.shape) if d not in dims),)
    full = (*full[:at], *shape, *full[at:])
    across = tuple(range(at, at + len(shape)))
    written = reduce_in_order(call, call.resolve(values).expand(full), across)
    (placed,) = call.move(written, lambda t: insert_dims(t.squeeze(across), dims))
    kept = reduce_in_order(call, x, dims)
    return call.merge(kept, call.positions(x.shape, dims), placed)


def _may_be_mask(x: Layout, index: Layout, dim: int) -> bool:
    """A mask has the sizes of the axes that it stands for, the first of which is ``dim``."""
    if index.value is not None:
        return index.value.dtype == torch.bool
    return index.ndim > 0 and x.shape[dim : dim + index.ndim] == index.shape


def _put_at_mask(call: Call, x: Layout, mask: Layout, values: Layout, dim: int) -> Layout:
    """What is written has one axis in the place of those of the mask, and the same ones behind.

    Numbers of positions along ``dim`` may look like a mask. They have more axes, but those behind
    a mask are the last ones of ``values`` all the same; those in front of it may then be others.
    """
    behind = x.ndim - dim - mask.ndim
    if dim and mask.ndim > 1 and mask.value is None:
        return call.pinned(x, values, reason=BY_VALUES)[0]
    values = call.resolve(values)
    values = values.expand((1,) * (dim + 1 + behind - values.ndim) + values.shape)
    across = range(dim, values.ndim - behind)
    (written,) = call.move(
        reduce_in_order(call, values, across), lambda t: t.squeeze(tuple(across))
    )
    dims = range(dim, dim + mask.ndim)
    (placed,) = call.move(written, lambda t: insert_dims(t, dims))
    return call.merge(reduce_in_order(call, x, dims), call.positions(x.shape, dims), placed)


def masked_scatter(call: Call, x: Layout, mask: Layout, source: Layout) -> Layout:
    """Entries of ``source``, one after the other, where the mask is true.

    Along its last axes a mask may be the same everywhere, as along the features of tokens: whole
    rows of ``source`` are written there.
    """
    shape = call.shape
    mask = call.pin(mask, BY_VALUES).expand(shape)
    front = max((d + 1 for c in mask.coordinates for d in varies_on(c)), default=0)
    count, rest = divmod(prod(source.shape), prod(shape[front:]))
    if rest:
        return call.pinned(x, source, reason=BY_VALUES)[0]
    rows = call.resolve(source).reshape((count, *shape[front:]))
    row = reduce_in_order(call, rows, [0]).reshape((*(1,) * front, *shape[front:]))
    return call.merge(call.resolve(x).expand(shape), row, call.positions(shape, range(front)))


def scatter(
    call: Call, x: Layout, dim: int, index: Layout, source: Any = None, *args: Any, **kwargs: Any
) -> Layout:
    """What is written meets what is there at the same position, except along ``dim``."""
    operands = [o for o in (x, index, source) if isinstance(o, Layout)]
    dim = dim % max(x.ndim, 1)
    pin_indexed(call, x, source)
    others = [tuple(n for d, n in enumerate(o.shape) if d != dim) for o in operands if o.ndim]
    if not x.ndim or len(set(others)) > 1:
        pin_indexed(call, index)
        return call.pinned(*operands, reason=BY_VALUES)[0]
    named = units_along(call, index, x.ndim, dim, x.shape[dim])
    if named is None:
        return _write_along(call, call.positions(x.shape, [dim]), dim, operands)
    return _write_along(call, call.merge(x, named), dim, operands[1:])


def index_add(
    call: Call, x: Layout, dim: int, index: Layout, source: Any, *args: Any, **kwargs: Any
) -> Layout:
    call.pin(index, BY_VALUES)
    dim = dim % max(x.ndim, 1)
    operands = [o for o in (x, source) if isinstance(o, Layout)]
    return _write_along(call, call.positions(x.shape, [dim] if x.ndim else []), dim, operands)


def slice_scatter(
    call: Call,
    x: Layout,
    source: Layout,
    dim: int = 0,
    start: int | None = None,
    end: int | None = None,
    step: int = 1,
) -> Layout:
    dim, n = dim % x.ndim, x.shape[dim % x.ndim]
    if step != 1:
        return call.pinned(x, source, reason=BY_VALUES)[0]
    first, last, _ = slice(start, end).indices(n)
    return _replace_part(call, x, source, dim, first, max(last, first))


def select_scatter(call: Call, x: Layout, source: Layout, dim: int, index: int) -> Layout:
    dim = dim % x.ndim
    index = index % x.shape[dim]
    part = call.move(source, lambda t: t.unsqueeze(dim))[0]
    return _replace_part(call, x, part, dim, index, index + 1)


def _replace_part(call: Call, x: Layout, part: Layout, dim: int, first: int, last: int) -> Layout:
    """``x`` with the positions from ``first`` to ``last`` along ``dim`` replaced."""
    n = x.shape[dim]
    pieces = [call.move(x, lambda t: t.narrow(dim, 0, first))[0]] if first else []
    pieces.append(part)
    if last < n:
        pieces.append(call.move(x, lambda t: t.narrow(dim, last, n - last))[0])
    return call.concatenate(pieces, dim)


def _write_along(call: Call, there: Layout, dim: int, operands: Sequence[Layout]) -> Layout:
    """Operands meet at every position but along ``dim``, where their order matters and they are
    pinned; what the result has along ``dim`` is that of ``there``."""
    rest = (reduce_in_order(call, x, [dim]) if x.ndim else x for x in operands)
    return call.merge(there, *rest)
