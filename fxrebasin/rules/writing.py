"""Writing at places that the input decides: what is written meets what is there.

Along the axes that are written at, units are pinned, unless the numbers that choose name the units
themselves (see ``order``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..layouts.adoption import resolve
from ..layouts.coordinates import Shape, pad_dims, positional
from ..layouts.layout import Layout
from . import movement
from .call import Call
from .indexing import CHOSEN, beside, spread
from .ordering import names_along, read


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
        call.pin(i, CHOSEN)
    shape = np.broadcast_shapes(*(i.shape for i in given))
    dims = [d for d, i in enumerate(indices) if i is not None]
    if any(i.ndim > 1 for i in given) and len(given) == 1:  # perhaps a mask
        return call.pinned(x, values, reason=CHOSEN)[0]
    at = dims[0] if dims[-1] - dims[0] == len(dims) - 1 else 0
    full = (*(n for d, n in enumerate(x.shape) if d not in dims),)
    full = (*full[:at], *shape, *full[at:])
    values = resolve(call.units, values)
    written = Layout(full, tuple(pad_dims(c, len(full)) for c in values.coordinates))
    across = tuple(range(at, at + len(shape)))
    rest = beside(call, written, across)
    placed = [spread(c.squeeze(across), dims) for c in rest.coordinates]
    there = beside(call, resolve(call.units, x), tuple(dims))
    places = positional(call.units, x.shape, tuple(dims))
    return call.merge(
        Layout(x.shape, (*there.coordinates, *places)), Layout(x.shape, tuple(placed))
    )


def scatter(
    call: Call, x: Layout, dim: int, index: Layout, source: Any = None, *args: Any, **kwargs: Any
) -> Layout:
    """What is written meets what is there at the same place, except along ``dim``."""
    operands = [o for o in (x, index, source) if isinstance(o, Layout)]
    dim = dim % max(x.ndim, 1)
    read(call, x, source)
    others = [tuple(n for d, n in enumerate(o.shape) if d != dim) for o in operands if o.ndim]
    if not x.ndim or len(set(others)) > 1:
        read(call, index)
        return call.pinned(*operands, reason=CHOSEN)[0]
    named = names_along(call, index, x.ndim, dim, x.shape[dim])
    if named is None:
        return _met(call, x.shape, dim, operands)
    there = call.merge(x, named)
    return call.merge(there, *_without(call, dim, operands[1:]))


def index_add(
    call: Call, x: Layout, dim: int, index: Layout, source: Any, *args: Any, **kwargs: Any
) -> Layout:
    call.pin(index, CHOSEN)
    operands = [o for o in (x, source) if isinstance(o, Layout)]
    return _met(call, x.shape, dim % max(x.ndim, 1), operands)


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
        return call.pinned(x, source, reason=CHOSEN)[0]
    first, last, _ = slice(start, end).indices(n)
    return _with_part(call, x, source, dim, first, max(last, first))


def select_scatter(call: Call, x: Layout, source: Layout, dim: int, index: int) -> Layout:
    dim = dim % x.ndim
    index = index % x.shape[dim]
    part = call.move(source, lambda t: t.unsqueeze(dim))[0]
    return _with_part(call, x, part, dim, index, index + 1)


def _with_part(call: Call, x: Layout, part: Layout, dim: int, first: int, last: int) -> Layout:
    """``x`` with the places from ``first`` to ``last`` along ``dim`` replaced."""
    n = x.shape[dim]
    pieces = [call.move(x, lambda t: t.narrow(dim, 0, first))[0]] if first else []
    pieces.append(part)
    if last < n:
        pieces.append(call.move(x, lambda t: t.narrow(dim, last, n - last))[0])
    return movement.cat(call, pieces, dim)


def _met(call: Call, shape: Shape, dim: int, operands: Sequence[Layout]) -> Layout:
    """Operands that meet at every place but along ``dim``, where order matters."""
    places = Layout(shape, tuple(positional(call.units, shape, (dim,))))
    return call.merge(places, *_without(call, dim, operands))


def _without(call: Call, dim: int, operands: Sequence[Layout]) -> list[Layout]:
    """What the operands are along all dims but one, where they are pinned."""
    kept = []
    for x in operands:
        rest = beside(call, resolve(call.units, x), (dim,)) if x.ndim else x
        sizes = tuple(1 if d == dim else n for d, n in enumerate(rest.shape))
        kept.append(Layout(sizes, rest.coordinates))
    return kept
