"""Which layout belongs to which tensor, views and in-place writes included.

Layouts are kept per storage, because that is what views share: a write through one view changes
what every other view of the storage holds. A tensor is known by where it lies in its storage
(offset, sizes, strides), so two tensor objects that are the same data have the same layout.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.weak import WeakTensorKeyDictionary

from ..layouts.causes import PinKind
from ..layouts.coordinates import Shape, along, collapse, positional, varies_on
from ..layouts.ids import NOWHERE, Ids, mix
from ..layouts.layout import Layout
from ..layouts.units import Units

Place = tuple[int, Shape, tuple[int, ...], int]
"""Offset, shape, strides, and the size of an entry in bytes."""


def place_of(tensor: torch.Tensor) -> Place:
    offset = int(tensor.storage_offset())
    return offset, tuple(tensor.shape), tensor.stride(), tensor.element_size()


def has_storage(tensor: torch.Tensor) -> bool:
    """Sparse tensors have none of their own: no view of one shares memory with it."""
    return tensor.layout == torch.strided


def storage_of(tensor: torch.Tensor) -> int:
    """A number that tensors share which share memory."""
    return tensor.untyped_storage()._cdata if has_storage(tensor) else -id(tensor)


@dataclass
class _Overwritten:
    """A part of a storage was written to, and nothing has yet looked at the whole of it."""

    before: Layout
    index: list[Ids]
    written: Layout


@dataclass
class _Record:
    reference: StorageWeakRef
    """Keeps the address of the storage from being used again while the record lives."""
    root: Place
    layouts: dict[Place, Layout] = field(default_factory=dict)
    pending: _Overwritten | None = None


class Storages:
    """From tensors to layouts."""

    def __init__(self, units: Units) -> None:
        self._units = units
        self._records: dict[int, _Record] = {}
        self._without: Any = WeakTensorKeyDictionary()
        """The layouts of tensors without a storage."""

    def _record(self, tensor: torch.Tensor) -> _Record:
        storage = tensor.untyped_storage()
        record = self._records.get(storage._cdata)
        if record is None:
            record = _Record(StorageWeakRef(storage), place_of(tensor))
            self._records[storage._cdata] = record
        return record

    def see(self, tensor: torch.Tensor) -> None:
        """Remember the shape in which a storage was first seen: writes go through that."""
        if has_storage(tensor):
            self._record(tensor)

    def get(self, tensor: torch.Tensor) -> Layout | None:
        """The layout of a tensor, or None if it holds a constant."""
        if not has_storage(tensor):
            layout: Layout | None = self._without.get(tensor)
            return layout
        record = self._records.get(storage_of(tensor))
        if record is None:
            return None
        place = place_of(tensor)
        found = record.layouts.get(place)
        if found is None and record.pending is not None:
            self._look_at_the_whole(record, record.pending)
            found = record.layouts.get(place)
        if found is None and record.layouts and record.root in record.layouts:
            root = record.layouts[record.root]
            if root.parameter is None:
                found = self._look_through(root, record.root, place)
        return found

    def _look_through(self, layout: Layout, root: Place, place: Place) -> Layout:
        """The layout of a view that no op has been seen to make of the root as it is now."""
        index = axis_indices(root, place) or entry_indices(root, place)
        if index is not None:
            return gather(layout, index, place[1])
        for c in layout.coordinates:
            text = "is seen through a view that cannot be followed"
            self._units.pin(c, text, PinKind.UNFOLLOWED)
        return Layout(place[1], tuple(positional(self._units, place[1])))

    def look_through(self, view: torch.Tensor, whole: Layout) -> Layout:
        """The layout of any view of a storage that holds ``whole``, in its first seen shape."""
        return self._look_through(whole, self._record(view).root, place_of(view))

    def put(self, tensor: torch.Tensor, layout: Layout) -> None:
        if has_storage(tensor):
            self._record(tensor).layouts[place_of(tensor)] = layout
        else:
            self._without[tensor] = layout

    def _look_at_the_whole(self, record: _Record, part: _Overwritten) -> None:
        record.pending = None
        whole = scatter(self._units, part.before, part.index, part.written)
        record.layouts = {record.root: whole}

    def write(self, tensor: torch.Tensor, layout: Layout, before: Layout) -> bool:
        """Record an in-place write; False where it cannot be followed.

        ``before`` is what the whole storage, in its first seen shape, held before the write. What
        is written to a part of it is distinguished from the rest when both are next read together,
        which need not happen: a work buffer is used for one thing after another.
        """
        if not has_storage(tensor):
            return False
        record = self._record(tensor)
        place = place_of(tensor)
        if 0 in place[1]:
            return True
        if _same_entries(place, record.root):
            record.layouts, record.pending = {record.root: layout, place: layout}, None
            return True
        index = axis_indices(record.root, place) or entry_indices(record.root, place)
        if index is None or not _is_product(index):
            return False
        record.layouts, record.pending = {place: layout}, _Overwritten(before, index, layout)
        return True

    def root(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor as which the storage of ``tensor`` was first seen."""
        if not has_storage(tensor):
            return tensor
        offset, shape, stride, _ = self._record(tensor).root
        return torch.as_strided(tensor, shape, stride, offset)


def _same_entries(a: Place, b: Place) -> bool:
    def strides(place: Place) -> list[tuple[int, int]]:
        return [(n, s) for n, s in zip(place[1], place[2], strict=True) if n > 1]

    return a[:2] == b[:2] and a[3] == b[3] and strides(a) == strides(b)


def axis_indices(root: Place, view: Place) -> list[Ids] | None:
    """Per axis of ``root``, the position that each entry of ``view`` has on it.

    None where the view does not lie along the axes of the root.
    """
    offset, shape, stride, size = root
    if size != view[3]:
        return None
    axes = sorted((a for a in range(len(shape)) if shape[a] > 1), key=lambda a: -stride[a])
    ndim = len(view[1])
    index = [np.zeros((1,) * ndim, dtype=np.int64) for _ in shape]
    remaining = view[0] - offset
    if remaining < 0:
        return None
    for a in axes:
        start, remaining = divmod(remaining, stride[a]) if stride[a] else (0, remaining)
        index[a] = index[a] + start
    if remaining:
        return None
    for d, (n, s) in enumerate(zip(view[1], view[2], strict=True)):
        if n == 1 or s == 0:
            continue
        axis = next((a for a in axes if stride[a] and stride[a] <= s), None)
        if axis is None or s % stride[axis]:
            return None
        steps = np.arange(n, dtype=np.int64) * (s // stride[axis])
        index[axis] = index[axis] + steps.reshape([-1 if k == d else 1 for k in range(ndim)])
    if any(index[a].max(initial=0) >= shape[a] for a in range(len(shape))):
        return None
    return index


def entry_indices(root: Place, view: Place) -> list[Ids] | None:
    """The same for any view, entry by entry; None where the root does not hold all its entries."""
    if root[3] != view[3]:
        return None
    held, seen = _offsets(root).ravel(), _offsets(view)
    order = np.argsort(held, kind="stable")
    found = np.searchsorted(held[order], seen).clip(max=len(held) - 1)
    entries = order[found]
    if not np.array_equal(held[entries], seen):
        return None
    return list(np.unravel_index(entries, root[1]))


def _offsets(place: Place) -> Ids:
    """Where in the storage every entry lies."""
    offset, shape, stride, _ = place
    total = np.full((1,) * len(shape), offset, dtype=np.int64)
    for d, (n, s) in enumerate(zip(shape, stride, strict=True)):
        total = total + along(np.arange(n, dtype=np.int64) * s, d, len(shape))
    return total


def _is_product(index: list[Ids]) -> bool:
    """Are the entries those of some rows by some columns, each once?"""
    shape = np.broadcast_shapes(*(ix.shape for ix in index))
    return prod(shape) == prod(len(np.unique(ix)) for ix in index)


def gather(root: Layout, index: list[Ids], shape: Shape) -> Layout:
    """The layout of a view, given the layout of its root."""
    coordinates = []
    for c in root.coordinates:
        where = tuple(index[a] if n > 1 else 0 for a, n in enumerate(c.shape))
        picked = np.asarray(c[where])
        coordinates.append(collapse(picked.reshape(picked.shape or (1,) * len(shape))))
    return Layout(shape, tuple(coordinates))


def scatter(units: Units, root: Layout, index: list[Ids], written: Layout) -> Layout:
    """The layout of a root after the entries at ``index`` were overwritten."""
    region = {a for a, ix in enumerate(index) if len(np.unique(ix)) < root.shape[a]}
    inside = np.zeros([n if a in region else 1 for a, n in enumerate(root.shape)], dtype=np.int64)
    inside[tuple(ix if a in region else 0 for a, ix in enumerate(index))] = 1
    result, is_marked = [], False
    for old, new in _pair_coordinates(root, written, index):
        touched = set(varies_on(new))
        spanned = {a for a, ix in enumerate(index) if set(varies_on(ix)) & touched}
        axes = region | spanned | set(varies_on(old))
        target = np.empty([n if a in axes else 1 for a, n in enumerate(root.shape)], dtype=np.int64)
        target[...] = old
        if axes:
            target[tuple(ix if a in axes else 0 for a, ix in enumerate(index))] = new
        else:
            target[...] = new.item()
        here = np.broadcast_to(inside, target.shape) == 1
        within, without = np.unique(target[here]), np.unique(target[~here])
        if np.intersect1d(within, without).size == 0:
            is_marked = True
            where = units.positions(-1, 2).repeat([len(without), len(within)])
            units.claim((np.concatenate([without, within]),), (where,))
        _keep_apart(units, within, without)
        result.append(collapse(target))
    if not is_marked:
        result.append(units.positions(-1, 2)[inside])
    return Layout(root.shape, tuple(result))


def _keep_apart(units: Units, within: Ids, without: Ids) -> None:
    """Units that were written to were made differently from those that were not."""
    ids = np.union1d(within, without)
    labels = np.isin(ids, within) + 2 * np.isin(ids, without)
    movable = ~units.is_pinned(ids)
    if len(np.unique(labels[movable])) > 1:
        units.label(ids[movable], mix(labels[movable]))


def _pair_coordinates(root: Layout, written: Layout, index: list[Ids]) -> list[tuple[Ids, Ids]]:
    """Coordinates of old and new contents, those that agree on the written entries first."""
    before = gather(root, index, written.shape).coordinates
    news = list(written.coordinates)
    olds = list(root.coordinates)
    partners: list[Ids | None] = []
    for seen in before:
        k = next((k for k, c in enumerate(news) if np.array_equal(c, seen)), None)
        partners.append(None if k is None else news.pop(k))
    for k, partner in enumerate(partners):
        if partner is None and news:
            partners[k] = news.pop(0)
    olds += [np.full([1] * root.ndim, NOWHERE, dtype=np.int64)] * len(news)
    partners += news
    nothing = np.full([1] * written.ndim, NOWHERE, dtype=np.int64)
    return [(old, nothing if new is None else new) for old, new in zip(olds, partners, strict=True)]
