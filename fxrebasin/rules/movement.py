"""Data movement: the real op is executed on the coordinates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch

from ..layout import (
    Layout,
    along,
    collapse,
    pad_dims,
    permute_dims,
    positional,
    reshape,
    varies_on,
)
from ..parameters import resolve
from ..primitives import as_tensor, move
from ..relations import canonical
from ..units import NOWHERE, Ids, Units, mix, sorted_set
from .registry import Call, Rule


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
        if not any(c.shape[d] > 1 for c in coordinates):
            coordinates.append(along(call.units.positions(d, x.shape[d]), d, x.ndim))
        coordinates = [_pad_along(c, d, amount) for c in coordinates]
    return Layout(call.shape, tuple(coordinates))


def _pad_along(coordinate: Ids, dim: int, amount: tuple[int, int]) -> Ids:
    if coordinate.shape[dim] == 1:
        return coordinate
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
    tensors = [None if i is None else i.value for i in indices]
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
    positions = index.value
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
    """Concatenation: coordinates are paired up across the operands and concatenated."""
    dim = dim % len(call.shape)
    xs = [resolve(call.units, x) for x in xs if x.shape != (0,)]
    columns = _columns(call, xs, dim)
    for column in columns:
        tell_operands_apart(call.units, column)
    if _ambiguous(columns):
        operands = call.units.positions(-1, len(xs))
        columns.append([operands[k].reshape([1] * x.ndim) for k, x in enumerate(xs)])
    sizes = [x.shape[dim] for x in xs]
    claim_operands(call.units, columns, sizes, dim)
    coordinates = [_concatenated(column, sizes, dim) for column in columns]
    return Layout(call.shape, tuple(coordinates))


def _columns(call: Call, xs: Sequence[Layout], dim: int) -> list[list[Ids]]:
    """Per coordinate of the result, the coordinate of every operand that goes into it."""
    lists = [canonical(call.units, x.coordinates) for x in xs]
    columns = []
    for c in list(lists[0]):
        if c.shape[dim] > 1:
            continue
        twins = [next((k for k, o in enumerate(x) if np.array_equal(o, c)), None) for x in lists]
        if all(k is not None for k in twins):
            columns.append([x.pop(k) for x, k in zip(lists, twins, strict=True) if k is not None])
    for x in lists:
        x.sort(key=lambda c: (bool(call.units.is_pinned(c).all()), varies_on(c)))
    nowhere = np.full([1] * xs[0].ndim, NOWHERE, dtype=np.int64)
    for k in range(max(len(x) for x in lists)):
        columns.append([x[k] if k < len(x) else nowhere for x in lists])
    return columns


def _ambiguous(columns: list[list[Ids]]) -> bool:
    """Could entries of two operands have the same units everywhere?"""
    if not columns:
        return True
    sets = [[sorted_set(c) for c in column] for column in columns]
    if any(_disjoint(column) for column in sets):
        return False
    return not all(
        any(np.intersect1d(column[a], column[b]).size == 0 for column in sets)
        for a, b in combinations(range(len(columns[0])), 2)
    )


def claim_operands(units: Units, columns: list[list[Ids]], sizes: list[int], dim: int) -> None:
    """Claim that the units of an entry say which operand it comes from."""
    operands = units.positions(-1, len(sizes))
    for column in columns:
        sets = [sorted_set(c) for c in column]
        if _disjoint(sets):
            units.claim((np.concatenate(sets),), (np.repeat(operands, [len(s) for s in sets]),))
            return
    ndim = columns[0][0].ndim
    keys = tuple(_concatenated(column, sizes, dim) for column in columns)
    units.claim(keys, (along(np.repeat(operands, sizes), dim, ndim),))


def _disjoint(sets: Sequence[Ids]) -> bool:
    together = np.concatenate(sets)
    return len(sorted_set(together)) == len(together)


def tell_operands_apart(units: Units, column: Sequence[Ids]) -> None:
    """Units that come from different operands were made differently, and are not exchangeable."""
    sets = [sorted_set(c) for c in column]
    operand = np.repeat(np.arange(len(sets)), [len(s) for s in sets])
    ids, inverse = np.unique(np.concatenate(sets), return_inverse=True)
    labels = np.zeros(len(ids), dtype=np.uint64)
    np.add.at(labels, inverse, mix(operand))
    movable = ~units.is_pinned(ids)
    if len(np.unique(labels[movable])) > 1:
        units.label(ids[movable], labels[movable])


def _concatenated(column: list[Ids], lengths: list[int], dim: int) -> Ids:
    sizes = [max(ns) for ns in zip(*(c.shape for c in column), strict=True)]
    parts = []
    for c, length in zip(column, lengths, strict=True):
        target = [length if d == dim else n for d, n in enumerate(sizes)]
        parts.append(np.broadcast_to(c, target))
    return collapse(np.concatenate(parts, axis=dim))


def glu(call: Call, x: Layout, dim: int = -1) -> Layout:
    return call.merge(*move(resolve(call.units, x), lambda t: t.chunk(2, dim)))


def unfolded(call: Call, x: Layout, *args: Any) -> Layout:
    """Patches as columns: channels times taps, at new positions."""
    n, rows, places = call.shape
    channels = call.reduce(x, [2, 3], keepdim=True)
    shape = (n, x.shape[1], rows // x.shape[1], places)
    told_apart = positional(call.units, shape, (2, 3))
    return reshape(Layout(shape, (*channels.coordinates, *told_apart)), call.shape)
