"""Data movement: the real op is executed on the coordinates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ..layouts.adoption import resolve
from ..layouts.concatenation import concatenate
from ..layouts.coordinates import along, collapse, pad_dims, positional
from ..layouts.ids import NOWHERE, Ids
from ..layouts.layout import Layout, permute_dims, reshape
from ..layouts.primitives import as_tensor, move
from .call import Call, Rule


def view(op: Callable[..., Any]) -> Rule:
    """The rule of an op that only returns views of its first argument."""

    def rule(call: Call, x: Layout, *args: Any, **kwargs: Any) -> list[Layout]:
        return move(x, lambda t: op(t, *args, **kwargs))

    return rule


def same(call: Call, x: Layout, *args: Any, **kwargs: Any) -> Layout:
    """Copies, casts and everything else that leaves each entry where it is."""
    if call.shape != x.shape:
        return call.pinned(x)[0]
    return Layout(x.shape, x.coordinates, x.parameter)


def reshaped(call: Call, x: Layout, *args: Any, **kwargs: Any) -> Layout:
    return reshape(x, call.shape)


def expanded(call: Call, x: Layout, *args: Any, **kwargs: Any) -> Layout:
    moved = tuple(pad_dims(c, len(call.shape)) for c in x.coordinates)
    return Layout(call.shape, moved, x.parameter)


def copied(call: Call, x: Layout, source: Layout, *args: Any) -> Layout:
    return expanded(call, resolve(call.units, source))


def filled(call: Call, x: Layout, value: Any = 0) -> Layout:
    return expanded(call, value) if isinstance(value, Layout) else Layout(call.shape)


def shifted(op: Callable[..., torch.Tensor]) -> Rule:
    """Ops that permute positions along named dims (roll, flip): no coordinate needs expanding."""

    def rule(
        call: Call, x: Layout, amounts: Any, dims: Sequence[int] = (), **kwargs: Any
    ) -> Layout:
        if op is torch.ops.aten.roll and not dims:
            return move(resolve(call.units, x), lambda t: op(t, amounts))[0]
        args = (amounts, dims) if dims else (amounts,)
        moved = [op(as_tensor(c), *args, **kwargs).numpy() for c in x.coordinates]
        return Layout(x.shape, tuple(moved), x.parameter)

    return rule


def repeat(call: Call, x: Layout, repeats: Sequence[int]) -> Layout:
    x = resolve(call.units, x)
    moved = [pad_dims(c, len(repeats)) for c in x.coordinates]
    tiled = [
        np.tile(c, [r if n > 1 else 1 for r, n in zip(repeats, c.shape, strict=True)])
        for c in moved
    ]
    return Layout(call.shape, tuple(tiled))


def pad(call: Call, x: Layout, amounts: Sequence[int], value: float = 0.0) -> Layout:
    """Constant padding: nothing is there, which the coordinates along the padded dims say."""
    x = resolve(call.units, x)
    per_dim = [(0, 0)] * x.ndim
    for k in range(len(amounts) // 2):
        per_dim[x.ndim - 1 - k] = (amounts[2 * k], amounts[2 * k + 1])
    coordinates = list(x.coordinates)
    for d, amount in enumerate(per_dim):
        if amount == (0, 0):
            continue
        there = [c for c in coordinates if c.shape[d] > 1]
        if _has_nameless(there):  # like what is padded now, which may have another value
            there.append(along(call.units.positions(-1, 1).repeat(x.shape[d]), d, x.ndim))
        along_others = [c for c in coordinates if c.shape[d] == 1]
        coordinates = [*along_others, *(_pad_along(c, d, amount) for c in there)]
    return Layout(call.shape, tuple(coordinates))


def _has_nameless(coordinates: Sequence[Ids]) -> bool:
    """Are there entries that no coordinate names?"""
    if not all((c == NOWHERE).any() for c in coordinates):
        return False
    nameless = np.ones((), dtype=bool)
    for c in coordinates:
        nameless = nameless & (c == NOWHERE)
    return bool(nameless.any())


def _pad_along(coordinate: Ids, dim: int, amount: tuple[int, int]) -> Ids:
    before, after = amount
    n = coordinate.shape[dim]
    cropped = coordinate.take(range(max(-before, 0), n - max(-after, 0)), axis=dim)
    width = [(max(before, 0), max(after, 0)) if d == dim else (0, 0) for d in range(cropped.ndim)]
    return np.pad(cropped, width, constant_values=NOWHERE)


def index(call: Call, x: Layout, indices: Sequence[Layout | None]) -> Layout:
    """Advanced indexing by constants."""
    given = [i for i in indices if i is not None]
    if x.value is not None or any(i.value is None for i in given):
        return call.pinned(x, *given, reason="is indexed by values that depend on the input")[0]
    values = [None if i is None else i.value for i in indices]
    tensors = [None if v is None else v.cpu() for v in values]
    dims: list[int] = []
    d = 0
    for i in tensors:
        width = i.ndim if i is not None and i.dtype == torch.bool else 1
        if i is not None:
            dims += range(d, d + width)
        d += width
    return _gather(x, dims, lambda t: torch.ops.aten.index.Tensor(t, tensors), call)


def index_select(call: Call, x: Layout, dim: int, index: Layout) -> Layout:
    if x.value is not None or index.value is None:
        return call.pinned(x, index, reason="is indexed by values that depend on the input")[0]
    positions = index.value.cpu()
    return _gather(x, [dim % x.ndim], lambda t: t.index_select(dim, positions), call)


def _gather(
    x: Layout, dims: list[int], op: Callable[[torch.Tensor], torch.Tensor], call: Call
) -> Layout:
    x = resolve(call.units, x)
    moved = []
    for c in x.coordinates:
        sizes = [n if d in dims else c.shape[d] for d, n in enumerate(x.shape)]
        moved.append(collapse(op(as_tensor(c).expand(sizes)).numpy()))
    return Layout(call.shape, tuple(moved))


def pixel_shuffle(call: Call, x: Layout, factor: int) -> Layout:
    *batch, c, h, w = x.shape
    n = len(batch)
    x = reshape(x, (*batch, c // factor**2, factor, factor, h, w))
    x = permute_dims(x, (*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return reshape(x, call.shape)


def pixel_unshuffle(call: Call, x: Layout, factor: int) -> Layout:
    *batch, c, h, w = x.shape
    n = len(batch)
    x = reshape(x, (*batch, c, h // factor, factor, w // factor, factor))
    x = permute_dims(x, (*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return reshape(x, call.shape)


def channel_shuffle(call: Call, x: Layout, groups: int) -> Layout:
    n, c, *rest = x.shape
    x = reshape(x, (n, groups, c // groups, *rest))
    return reshape(permute_dims(x, (0, 2, 1, *range(3, x.ndim))), call.shape)


def stack(call: Call, xs: Sequence[Layout], dim: int = 0) -> Layout:
    dim = dim % len(call.shape)
    raised = [move(resolve(call.units, x), lambda t: t.unsqueeze(dim))[0] for x in xs]
    return cat(call, raised, dim)


def cat(call: Call, xs: Sequence[Layout], dim: int = 0) -> Layout:
    return concatenate(call.units, xs, dim % len(call.shape))


def glu(call: Call, x: Layout, dim: int = -1) -> Layout:
    return call.merge(*move(resolve(call.units, x), lambda t: t.chunk(2, dim)))


def unfolded(call: Call, x: Layout, *args: Any) -> Layout:
    """Patches as columns: channels times taps, at new positions."""
    n, rows, places = call.shape
    channels = call.reduce(x, [2, 3], keepdim=True)
    shape = (n, x.shape[1], rows // x.shape[1], places)
    told_apart = positional(call.units, shape, (2, 3))
    return reshape(Layout(shape, (*channels.coordinates, *told_apart)), call.shape)
