"""Which layout belongs to which tensor, views and in-place writes included.

Layouts are kept per storage, because that is what views share: a write through one view changes
what every other view of the storage holds. A tensor is known by where it lies in its storage
(offset, sizes, strides), so two tensor objects that are the same data have the same layout.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch.multiprocessing.reductions import StorageWeakRef

from .layout import Layout, Shape, collapse, varies_on
from .units import NOWHERE, Ids

Place = tuple[int, Shape, tuple[int, ...]]


def place_of(tensor: torch.Tensor) -> Place:
    return tensor.storage_offset(), tuple(tensor.shape), tensor.stride()


@dataclass
class _Record:
    reference: StorageWeakRef
    """Keeps the address of the storage from being used again while the record lives."""
    root: Place
    layouts: dict[Place, Layout] = field(default_factory=dict)


class Storages:
    """From tensors to layouts."""

    def __init__(self) -> None:
        self._records: dict[int, _Record] = {}

    def _record(self, tensor: torch.Tensor) -> _Record:
        storage = tensor.untyped_storage()
        record = self._records.get(storage._cdata)
        if record is None:
            record = _Record(StorageWeakRef(storage), place_of(tensor))
            self._records[storage._cdata] = record
        return record

    def see(self, tensor: torch.Tensor) -> None:
        """Remember the shape in which a storage was first seen: writes go through that."""
        self._record(tensor)

    def get(self, tensor: torch.Tensor) -> Layout | None:
        """The layout of a tensor, or None if it holds a constant."""
        record = self._records.get(tensor.untyped_storage()._cdata)
        if record is None:
            return None
        place = place_of(tensor)
        found = record.layouts.get(place)
        if found is None and record.layouts and record.root in record.layouts:
            index = axis_indices(record.root, place)
            root = record.layouts[record.root]
            if index is not None and root.parameter is None:
                found = gather(root, index, place[1])
        return found

    def put(self, tensor: torch.Tensor, layout: Layout) -> None:
        self._record(tensor).layouts[place_of(tensor)] = layout

    def write(self, tensor: torch.Tensor, layout: Layout, before: Layout | None) -> bool:
        """Record an in-place write; False where it cannot be followed.

        ``before`` is what the whole storage, in its first seen shape, held before the write.
        """
        record = self._record(tensor)
        place = place_of(tensor)
        if _same_entries(place, record.root):
            record.layouts = {record.root: layout, place: layout}
            return True
        index = axis_indices(record.root, place)
        if index is None or before is None:
            return False
        record.layouts = {record.root: scatter(before, index, layout)}
        return True

    def root(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor as which the storage of ``tensor`` was first seen."""
        offset, shape, stride = self._record(tensor).root
        return torch.as_strided(tensor, shape, stride, offset)


def _same_entries(a: Place, b: Place) -> bool:
    def strides(place: Place) -> list[tuple[int, int]]:
        return [(n, s) for n, s in zip(place[1], place[2], strict=True) if n > 1]

    return a[:2] == b[:2] and strides(a) == strides(b)


def axis_indices(root: Place, view: Place) -> list[Ids] | None:
    """Per axis of ``root``, the position that each entry of ``view`` has on it.

    None where the view does not lie along the axes of the root.
    """
    offset, shape, stride = root
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


def gather(root: Layout, index: list[Ids], shape: Shape) -> Layout:
    """The layout of a view, given the layout of its root."""
    coordinates = []
    for c in root.coordinates:
        where = tuple(index[a] if n > 1 else 0 for a, n in enumerate(c.shape))
        picked = np.asarray(c[where])
        coordinates.append(collapse(picked.reshape(picked.shape or (1,) * len(shape))))
    return Layout(shape, tuple(coordinates))


def scatter(root: Layout, index: list[Ids], written: Layout) -> Layout:
    """The layout of a root after the entries at ``index`` were overwritten."""
    result = []
    region = {
        a
        for a, ix in enumerate(index)
        if len(np.unique(ix)) < root.shape[a]
    }
    olds, news = _paired(root, written, index)
    for old, new in zip(olds, news, strict=True):
        axes = set(region)
        if old is not None:
            axes |= set(varies_on(old))
        if new is not None:
            touched = set(varies_on(new))
            axes |= {a for a, ix in enumerate(index) if set(varies_on(ix)) & touched}
        target = np.full([n if a in axes else 1 for a, n in enumerate(root.shape)], NOWHERE)
        if old is not None:
            target[...] = old
        where = tuple(ix if a in axes else 0 for a, ix in enumerate(index))
        target[where] = NOWHERE if new is None else new
        result.append(collapse(target))
    return Layout(root.shape, tuple(result))


def _paired(
    root: Layout, written: Layout, index: list[Ids]
) -> tuple[list[Ids | None], list[Ids | None]]:
    """Coordinates of old and new contents, those that agree on the region first."""
    before = gather(root, index, written.shape).coordinates
    news = list(written.coordinates)
    olds: list[Ids | None] = []
    paired: list[Ids | None] = []
    for old, seen in zip(root.coordinates, before, strict=True):
        k = next((k for k, c in enumerate(news) if np.array_equal(c, seen)), None)
        olds.append(old)
        paired.append(news.pop(k) if k is not None else None)
    for new in news:
        k = next((k for k, c in enumerate(paired) if c is None), None)
        if k is None:
            olds.append(None)
            paired.append(new)
        else:
            paired[k] = new
    return olds, paired
