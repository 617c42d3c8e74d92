"""The primitives that every rule is made of: ``merge``, ``reduce``, ``move``, ``pin_units``.

A product of matrices merges its operands along the dim that they share, and reduces over it:

>>> from fxrebasin.layouts.coordinates import along
>>> units = Units()
>>> k, other_k, m = units.fresh(4), units.fresh(4), units.fresh(5)
>>> x, y = Layout((1, 4), (along(k, 1, 2),)), Layout((4, 5), (along(other_k, 0, 2), along(m, 1, 2)))
>>> (left,), (right,) = move(x, lambda t: t.unsqueeze(2)), move(y, lambda t: t.unsqueeze(0))
>>> product = reduce(units, merge(units, left, right, reduced=(1,)), (1,))
>>> product.shape, [c.ravel().tolist() == m.tolist() for c in product.coordinates]
((1, 5), [True])
>>> units.find(other_k).tolist() == k.tolist()
True
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
import torch

from .adoption import resolve
from .causes import PinKind
from .coordinates import Shape, as_tensor, collapse, positional, varies_on
from .grouped_axes import note_products, note_sum
from .ids import Hashes, Ids, count_distinct, mix, sorted_set
from .layout import Layout
from .pairs import drop_repeats
from .rows import settle_rows
from .settling import settle
from .units import Units

Movement = Callable[[torch.Tensor], torch.Tensor | Sequence[torch.Tensor]]
"""A function that only moves the entries of a tensor, into one result or several."""


def merge(units: Units, *operands: Layout, reduced: tuple[int, ...] = ()) -> Layout:
    """Operands broadcast and meet entry by entry, as in every pointwise op.

    ``reduced`` names dims that are reduced next; a parameter that has no units yet then adopts
    those that it meets there, and gets fresh ones along the others.

    >>> from fxrebasin.layouts.coordinates import along
    >>> units = Units()
    >>> a, b = units.fresh(4), units.fresh(4)
    >>> both = merge(units, Layout((2, 4), (along(a, 1, 2),)), Layout((4,), (b,)))
    >>> units.find(b).tolist() == a.tolist()
    True
    """
    ndim = max(x.ndim for x in operands)
    layouts = [x.expand((1,) * (ndim - x.ndim) + x.shape) for x in operands]
    shape = np.broadcast_shapes(*(x.shape for x in layouts))
    unnamed = [x for x in layouts if x.parameter is not None]
    unnamed.sort(key=lambda x: not any(x.shape[d] > 1 for d in reduced))
    known = [x for x in layouts if x.parameter is None]
    merged = Layout(shape, tuple(c for x in known for c in x.coordinates))
    for x in unnamed:
        x = resolve(units, x, settle(units, merged), reduced)
        known.append(x)
        merged = Layout(shape, merged.coordinates + x.coordinates)
    note_products(units, known)
    if len(operands) == 1 and not unnamed:
        return merged
    return settle(units, merged)


def merge_entries(units: Units, x: Layout, y: Layout) -> Layout | None:
    """Two operands meet in an op that does not mind their order, as in a maximum.

    Where both hold entries of one tensor, these change places freely, since what meets is a set.
    None where they do not, or not so that every unit is in one pair.
    """
    if x.entries_of != y.entries_of or x.shape != y.shape or 0 in x.shape:
        return None
    pairs = [
        np.stack(np.broadcast_arrays(*two))
        for two in zip(x.coordinates, y.coordinates, strict=True)
    ]
    differ = [p for p in pairs if not np.array_equal(p[0], p[1])]
    if len(differ) != 1 or not _is_partition(units, differ[0]):
        return None
    both = Layout((2, *x.shape), tuple(map(collapse, pairs)))
    return reduce(units, both, (0,))


def _is_partition(units: Units, pairs: Ids) -> bool:
    """Is every unit in one pair only, with another?"""
    if units.is_pinned(pairs).any():
        return False
    rows = np.unique(np.sort(units.find(pairs).reshape(2, -1), axis=0), axis=1)
    return len(np.unique(rows)) == rows.size


def reduce(units: Units, x: Layout, dims: tuple[int, ...], *, keepdim: bool = False) -> Layout:
    """A reduction over ``dims`` that does not depend on the order: sum, mean, maximum.

    A coordinate that varies on none of ``dims`` stays. One that varies on these alone vanishes;
    what is left of it is that the set of its units has to be kept. One that varies on others as
    well becomes a coordinate of fresh units along these, the parents of those summed over.
    """
    x = settle(units, resolve(units, x))
    inside = {d % x.ndim for d in dims} if x.ndim else set()
    shape = tuple(1 if d in inside else n for d, n in enumerate(x.shape))
    settle_rows(units, x, inside)
    kept: list[Ids] = []
    for coordinate in x.coordinates:
        varied = set(varies_on(coordinate))
        if not varied & inside:
            kept.append(coordinate)
        elif not varied <= inside:
            note_sum(units, coordinate, inside)
            kept.append(_units_of_rows(units, coordinate, inside))
        elif not units.is_pinned(coordinate).all():
            _keep_set(units, coordinate)
    kept += _claim_sums(units, x, kept, inside)
    result = settle(units, Layout(shape, tuple(kept)))
    return result if keepdim else _drop_dims(result, inside)


def move(x: Layout, movement: Movement) -> list[Layout]:
    """Run a view-like op on the coordinates themselves; a layout per result of the op.

    They are expanded with stride 0, which views preserve, so the cost does not depend on the dims
    along which a coordinate does not vary.
    """
    shapes = [tuple(t.shape) for t in _results(movement(torch.empty(()).expand(x.shape)))]
    moved = [[_shrink(t) for t in _results(movement(_expand(c, x.shape)))] for c in x.coordinates]
    return [
        Layout(shape, tuple(row[k] for row in moved), x.parameter) for k, shape in enumerate(shapes)
    ]


def pin_units(
    units: Units,
    x: Layout,
    reason: str,
    dims: tuple[int, ...] | None = None,
    *,
    kind: PinKind = PinKind.RULE,
    op: str = "",
) -> Layout:
    """Forbid every unit that varies on ``dims`` (default: every unit) to move."""
    x = resolve(units, x)
    for coordinate in x.coordinates:
        if dims is None or set(varies_on(coordinate)) & set(dims):
            units.pin(coordinate, reason, kind, op)
    return x


def pin_unused(units: Units, x: Layout, used: Layout, reason: str) -> None:
    """Pin the units of ``x`` that are not in ``used``, along the axes where others are."""
    kept = [units.find(c).ravel() for c in used.coordinates]
    ids_used = np.concatenate([*kept, np.empty(0, np.int64)])
    for c in resolve(units, x).coordinates:
        ids = sorted_set(units.find(c))
        is_used = np.isin(ids, ids_used)
        if is_used.any():
            units.pin(ids[~is_used], reason, PinKind.UNUSED)


def _claim_sums(units: Units, x: Layout, kept: list[Ids], inside: set[int]) -> list[Ids]:
    """Claim that what is kept determines the sums; else, pinned coordinates to keep as well."""
    more: list[Ids] = []
    for group in _joined_within(x.coordinates, inside):
        outer = {d for c in group for d in varies_on(c)} - inside
        keys = [c for c in kept if varies_on(c) and outer.issuperset(varies_on(c))]
        if len(group) > 1 and outer and not _determine_sums(keys, group, inside):
            keys = [c for c in kept if outer & set(varies_on(c))]
            if not _determine_sums(keys, group, inside):
                more += positional(units, x.shape, tuple(sorted(outer)))
                keys = more
        units.claim(tuple(keys), tuple(group), tuple(sorted(inside)))
    return more


def _joined_within(coordinates: Sequence[Ids], inside: set[int]) -> list[list[Ids]]:
    """The coordinates that are reduced, in groups that have no reduced dim in common."""
    groups: list[tuple[set[int], list[Ids]]] = []
    for c in coordinates:
        dims = set(varies_on(c)) & inside
        if dims:
            touching = [g for g in groups if g[0] & dims]
            groups = [g for g in groups if not g[0] & dims]
            joined = dims.union(*(g[0] for g in touching))
            groups.append((joined, [*(c for g in touching for c in g[1]), c]))
    return [group for _, group in groups]


def _determine_sums(keys: list[Ids], group: list[Ids], inside: set[int]) -> bool:
    """Is what is reduced the same multiset of units wherever the keys are the same?"""
    distinct = drop_repeats([*keys, *group], inside)
    keys, group = distinct[: len(keys)], distinct[len(keys) :]
    key = _hash(keys)
    sums = np.broadcast_shapes(*(_without(c.shape, inside) for c in distinct))
    if key.size == prod(sums) == count_distinct(key):
        return True  # no two of them have the same keys
    value = mix(_hash(group)).sum(axis=tuple(sorted(inside)), keepdims=True, dtype=np.uint64)
    key, value = np.broadcast_arrays(key, value)
    both = mix(key) + value
    return count_distinct(key) == count_distinct(both)


def _without(shape: Shape, dims: set[int]) -> Shape:
    return tuple(1 if d in dims else n for d, n in enumerate(shape))


def _hash(coordinates: list[Ids]) -> Hashes:
    total: Hashes = np.zeros((), dtype=np.uint64)
    for c in coordinates:
        total = mix(total) + mix(c)
    return total


def _drop_dims(x: Layout, dims: set[int]) -> Layout:
    """Remove dims of size 1."""
    shape = tuple(n for d, n in enumerate(x.shape) if d not in dims)
    axis = tuple(dims)
    return Layout(shape, tuple(c.squeeze(axis) for c in x.coordinates), x.parameter)


def _keep_set(units: Units, coordinate: Ids) -> None:
    ids, counts = np.unique(coordinate, return_counts=True)
    movable = ~units.is_pinned(ids)
    units.label(ids[movable], mix(counts[movable]))


def _units_of_rows(units: Units, coordinate: Ids, inside: set[int]) -> Ids:
    """A unit for every different set of units that is reduced over."""
    outer = [d for d in range(coordinate.ndim) if d not in inside]
    outer_shape = [coordinate.shape[d] for d in outer]
    rows = coordinate.transpose([*outer, *sorted(inside)]).reshape(prod(outer_shape), -1)
    rows, first, inverse = np.unique(
        np.sort(rows, axis=1), axis=0, return_index=True, return_inverse=True
    )
    pinned_already = units.is_pinned(rows).all()
    parents = None if pinned_already else _parents(units, rows)
    if parents is None:
        order = np.argsort(np.argsort(first))
        parents = units.positions(outer[0], len(rows))[order]
    shape = [1 if d in inside else n for d, n in enumerate(coordinate.shape)]
    return collapse(parents[inverse.reshape(outer_shape)].reshape(shape))


def _parents(units: Units, rows: Ids) -> Ids | None:
    """A fresh parent of the units in each row; None, and all pinned, where rows overlap."""
    parents = units.fresh(len(rows))
    pairs = rows * np.int64(len(rows)) + np.arange(len(rows))[:, None]
    children, counts = np.unique(pairs, return_counts=True)
    children, owner = children // len(rows), parents[children % len(rows)]
    movable = ~units.is_pinned(children)
    fixed = np.zeros(len(rows), dtype=np.uint64)
    met = mix(children[~movable], 3) * counts[~movable].astype(np.uint64)
    np.add.at(fixed, owner[~movable] - parents[0], met)
    units.label(parents, fixed)
    children, owner, counts = children[movable], owner[movable], counts[movable]
    if count_distinct(children) < len(children):
        units.pin(children, "is summed over in windows that overlap", PinKind.MEETING)
        return None
    units.contain(children, owner)
    units.label(children, mix(counts))
    return parents


def _expand(coordinate: Ids, shape: Shape) -> torch.Tensor:
    return as_tensor(coordinate).expand(shape)


def _results(moved: torch.Tensor | Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
    return [moved] if isinstance(moved, torch.Tensor) else moved


def _shrink(moved: torch.Tensor) -> Ids:
    for d, (n, stride) in enumerate(zip(moved.shape, moved.stride(), strict=True)):
        if n > 1 and stride == 0:
            moved = moved.narrow(d, 0, 1)
    return moved.contiguous().numpy()
