"""Data movement: the op itself is run on the coordinates, in the place of numbers.

A coordinate has size 1 along every dim that it does not vary on. It is expanded only where an op
needs the full size, so that the cost is that of the dims along which units lie.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..layouts.coordinates import along, as_tensor, collapse, pad_dims, varies_on
from ..layouts.ids import NOWHERE, Ids
from ..layouts.layout import Layout
from .call import Call, Rule

# views and copies


def view(op: Callable[..., Any]) -> Rule:
    """The rule of an op that only returns views of its first argument."""

    def rule(call: Call, x: Layout, *args: Any, **kwargs: Any) -> list[Layout]:
        return call.view(x, lambda t: op(t, *args, **kwargs))

    return rule


def keep_entries(call: Call, x: Layout, *args: Any, **kwargs: Any) -> Layout:
    """Copies, casts and everything else that leaves each entry where it is."""
    if call.shape != x.shape:
        return call.pinned(x)[0]
    return Layout(x.shape, x.coordinates, x.parameter)


def resize(call: Call, x: Layout, *args: Any, **kwargs: Any) -> Layout:
    """To the size that a tensor has already: what is written to it is what was there."""
    return keep_entries(call, call.resolve(x))


def reshape(call: Call, x: Layout, *args: Any, **kwargs: Any) -> Layout:
    return x.reshape(call.shape)


def expand(call: Call, x: Layout, *args: Any, **kwargs: Any) -> Layout:
    return x.expand(call.shape)


def copy(call: Call, x: Layout, source: Layout, *args: Any) -> Layout:
    return call.resolve(source).expand(call.shape)


def fill(call: Call, x: Layout, value: Any = 0) -> Layout:
    return value.expand(call.shape) if isinstance(value, Layout) else Layout(call.shape)


# along one axis


def flip_or_roll(op: Callable[..., torch.Tensor]) -> Rule:
    """The rule of an op that permutes the positions along the dims that are named."""

    def rule(
        call: Call, x: Layout, amounts: Any, dims: Sequence[int] = (), **kwargs: Any
    ) -> Layout:
        if op is torch.ops.aten.roll and not dims:  # of the flattened tensor
            return call.move(x, lambda t: op(t, amounts))[0]
        args = (amounts, dims) if dims else (amounts,)
        moved = [op(as_tensor(c), *args, **kwargs).numpy() for c in x.coordinates]
        return Layout(x.shape, tuple(moved), x.parameter)

    return rule


def rot90(call: Call, x: Layout, k: int = 1, dims: Sequence[int] = (0, 1)) -> Layout:
    turned = [torch.rot90(as_tensor(c), k, list(dims)).numpy() for c in x.coordinates]
    return Layout(call.shape, tuple(turned), x.parameter)


def repeat(call: Call, x: Layout, repeats: Sequence[int]) -> Layout:
    x = call.resolve(x)
    moved = [pad_dims(c, len(repeats)) for c in x.coordinates]
    tiled = [
        np.tile(c, [r if n > 1 else 1 for r, n in zip(repeats, c.shape, strict=True)])
        for c in moved
    ]
    return Layout(call.shape, tuple(tiled))


def cat(call: Call, xs: Sequence[Layout], dim: int = 0) -> Layout:
    return call.concatenate(xs, dim)


def stack(call: Call, xs: Sequence[Layout], dim: int = 0) -> Layout:
    dim = dim % len(call.shape)
    moved = [call.move(x, lambda t: t.unsqueeze(dim))[0] for x in xs]
    return call.concatenate(
        [replace(m, origin=x.entries_of) for m, x in zip(moved, xs, strict=True)], dim
    )


def glu(call: Call, x: Layout, dim: int = -1) -> Layout:
    return call.merge(*call.move(x, lambda t: t.chunk(2, dim)))


# padding


def pad(call: Call, x: Layout, amounts: Sequence[int], value: float = 0.0) -> Layout:
    """Constant padding: the coordinates along a padded dim say that no unit is there."""
    x = call.resolve(x)
    per_dim = [(0, 0)] * x.ndim
    for k in range(len(amounts) // 2):
        per_dim[x.ndim - 1 - k] = (amounts[2 * k], amounts[2 * k + 1])
    coordinates = list(x.coordinates)
    for d, amount in enumerate(per_dim):
        if amount == (0, 0):
            continue
        padded = [c for c in coordinates if c.shape[d] > 1]
        if _has_unreached(padded):  # as what is padded now will be, which may have another value
            padded.append(along(call.units.positions(-1, 1).repeat(x.shape[d]), d, x.ndim))
        others = [c for c in coordinates if c.shape[d] == 1]
        coordinates = [*others, *(_pad_along(c, d, amount) for c in padded)]
    return Layout(call.shape, tuple(coordinates))


def _has_unreached(coordinates: Sequence[Ids]) -> bool:
    """Are there entries that no unit reaches, along any coordinate?"""
    if not all((c == NOWHERE).any() for c in coordinates):
        return False
    unreached = np.ones((), dtype=bool)
    for c in coordinates:
        unreached = unreached & (c == NOWHERE)
    return bool(unreached.any())


def _pad_along(coordinate: Ids, dim: int, amount: tuple[int, int]) -> Ids:
    before, after = amount
    n = coordinate.shape[dim]
    cropped = coordinate.take(range(max(-before, 0), n - max(-after, 0)), axis=dim)
    width = [(max(before, 0), max(after, 0)) if d == dim else (0, 0) for d in range(cropped.ndim)]
    return np.pad(cropped, width, constant_values=NOWHERE)


# indices that are constants


def index(call: Call, x: Layout, indices: Sequence[torch.Tensor | None]) -> Layout:
    """``x[indices]``."""
    given = [None if i is None else i.cpu() for i in indices]
    dims: list[int] = []
    d = 0
    for i in given:
        width = i.ndim if i is not None and i.dtype == torch.bool else 1
        if i is not None:
            dims += range(d, d + width)
        d += width
    return _run_along(call, x, dims, lambda t: torch.ops.aten.index.Tensor(t, given))


def index_select(call: Call, x: Layout, dim: int, index: torch.Tensor) -> Layout:
    return _run_along(call, x, [dim % x.ndim], lambda t: t.index_select(dim, index.cpu()))


def _run_along(
    call: Call, x: Layout, dims: Sequence[int], op: Callable[[torch.Tensor], torch.Tensor]
) -> Layout:
    """Run an op on coordinates that have their full size along ``dims``."""
    moved = []
    for c in call.resolve(x).coordinates:
        sizes = [n if d in dims else c.shape[d] for d, n in enumerate(x.shape)]
        moved.append(collapse(op(as_tensor(c).expand(sizes)).numpy()))
    return Layout(call.shape, tuple(moved))


def gather(call: Call, x: Layout, dim: int, index: torch.Tensor) -> Layout:
    """``x[..., index[..., j, ...], ...]``, at the other dims' own positions."""
    moved = []
    for c in call.resolve(x).coordinates:
        if dim in varies_on(c):
            picked = as_tensor(c).expand(x.shape).gather(dim, index.cpu()).numpy()
            moved.append(collapse(picked))
        else:
            moved.append(c[tuple(slice(max(n, 1)) for n in call.shape)])
    return Layout(call.shape, tuple(moved))


# the channels of feature maps


def pixel_shuffle(call: Call, x: Layout, factor: int) -> Layout:
    *batch, c, h, w = x.shape
    n = len(batch)
    x = x.reshape((*batch, c // factor**2, factor, factor, h, w))
    return x.permute((*range(n), n, n + 3, n + 1, n + 4, n + 2)).reshape(call.shape)


def pixel_unshuffle(call: Call, x: Layout, factor: int) -> Layout:
    *batch, c, h, w = x.shape
    n = len(batch)
    x = x.reshape((*batch, c, h // factor, factor, w // factor, factor))
    return x.permute((*range(n), n, n + 2, n + 4, n + 1, n + 3)).reshape(call.shape)


def channel_shuffle(call: Call, x: Layout, groups: int) -> Layout:
    n, c, *rest = x.shape
    x = x.reshape((n, groups, c // groups, *rest))
    return x.permute((0, 2, 1, *range(3, x.ndim))).reshape(call.shape)
