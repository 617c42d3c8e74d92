"""Axes of parameters that turn out to be in groups after they got units.

The weight of a grouped convolution, of shape ``(g o) i``, has ``g`` groups along its first axis,
and the ``i`` input channels of each group are other ones. If the weight is normalised before it is
used, it has units already when the convolution says so, and one set of ``i`` units for all groups:
fewer permutations than there are. :func:`note_groups` takes note of that, and :func:`find_groups`
says which axes need units per group; the model is then run once more, with these.

Where the op is a product entry by entry, and the sum comes later, :func:`note_products` keeps what
has met, and :func:`note_sum` tells from the sum which of the two axes is the one of the groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import permutations

import numpy as np

from .coordinates import along, varies_on
from .ids import Ids, sorted_set
from .layout import Layout, Parameter
from .units import Meeting, Product, Units

Groups = dict[str, dict[int, tuple[int, Ids]]]
"""Per parameter and axis whose units differ by group: the axis that the groups lie on, and the
group of each position of that axis."""


def note_groups(
    units: Units, operands: Sequence[Layout], products: Iterable[tuple[int, ...]]
) -> None:
    """Note where an operand has the same units in all groups, but could have others in each.

    The operands have a dim per letter of a signature. Groups lie along one dim and the units of
    each group along another: two dims which one coordinate of a different operand varies on, or
    which are multiplied on an axis of the result (``products``).
    """
    of_result = {dims for dims in products if len(dims) == 2}
    for weight in operands:
        if weight.parameter is None:
            own = [(set(varies_on(c)), c) for c in weight.coordinates if _moves(units, c)]
            others = [x for x in operands if x is not weight and x.parameter is None]
            met = {varies_on(c) for x in others for c in x.coordinates if _moves(units, c)}
            for dims in of_result | {dims for dims in met if len(dims) == 2}:
                if any(span.issuperset(dims) for span, _ in own):
                    continue
                for inner, outer in (dims, dims[::-1]):
                    shared = [c for span, c in own if span == {inner}]
                    grouped = [c for span, c in own if outer in span]
                    units.meetings += [
                        Meeting(c, g.ravel(), _numbers(g, outer)) for c in shared for g in grouped
                    ]


def note_products(units: Units, operands: Sequence[Layout]) -> None:
    """Keep in mind where the units of two axes of one operand meet others that all differ.

    >>> units = Units()
    >>> axes = Layout((2, 4), (along(units.fresh(2), 0, 2), along(units.fresh(4), 1, 2)))
    >>> joint = Layout((2, 4), (units.fresh(8).reshape(2, 4),))
    >>> note_products(units, [axes, joint])
    >>> note_sum(units, joint.coordinates[0], {1})
    >>> [(m.shared.tolist(), m.grouped.tolist()) for m in units.meetings]
    [([3, 4, 5, 6], [1, 2])]
    """
    joint = [c for x in operands for c in x.coordinates if len(varies_on(c)) == 2]
    joint = [c for c in joint if _is_free(units, c)]
    for x in operands if joint else ():
        own = {varies_on(c)[0]: c for c in x.coordinates if len(varies_on(c)) == 1}
        own = {d: c.ravel() for d, c in own.items() if _is_free(units, c)}
        for c in joint:
            if own.keys() >= {*varies_on(c)}:
                ids = units.find(c).ravel()
                order = np.argsort(ids)
                one, other = ((own[d], _numbers(c, d)[order]) for d in varies_on(c))
                units.products.append(Product(ids[order], (one, other)))


def note_sum(units: Units, coordinate: Ids, inside: set[int]) -> None:
    """Take note of the groups that units lie in where they are summed over the dims ``inside``."""
    if not units.products or not _is_free(units, coordinate):
        return
    outer = [d for d in varies_on(coordinate) if d not in inside]
    rows = np.zeros(coordinate.size, dtype=np.int64)
    for d in outer:
        rows = rows * coordinate.shape[d] + _numbers(coordinate, d)
    ids = units.find(coordinate).ravel()
    order = np.argsort(ids)
    for product in units.products:
        if np.array_equal(np.sort(units.find(product.ids)), ids[order]):
            row = rows[order][np.argsort(np.argsort(units.find(product.ids)))]
            for (shared, _), (grouped, number) in permutations(product.axes):
                pairs = np.unique(np.stack([number, row]), axis=1).shape[1]
                if pairs == len(np.unique(number)) == len(np.unique(row)):
                    units.meetings.append(Meeting(shared, grouped, np.arange(len(grouped))))


def _is_free(units: Units, coordinate: Ids) -> bool:
    """Do all entries have other units, which can move?"""
    ids = units.find(coordinate)
    return not units.is_pinned(ids).any() and len(sorted_set(ids)) == ids.size


def _moves(units: Units, coordinate: Ids) -> bool:
    return not units.is_pinned(coordinate).all()


def _numbers(coordinate: Ids, dim: int) -> Ids:
    """The index along a dim of every entry of a coordinate."""
    number = along(np.arange(coordinate.shape[dim]), dim, coordinate.ndim)
    return np.broadcast_to(number, coordinate.shape).ravel()


def find_groups(units: Units, parameters: Iterable[Parameter]) -> Groups:
    """The axes of parameters that adopted no units, and for which groups were noted.

    Where every position of the axis of the groups is a group of its own, as the expert in a weight
    per expert, all other axes of the parameter have units per group.
    """
    found: Groups = {}
    named = {p.name: _own_units(units, p) for p in parameters} if units.meetings else {}
    for meeting in units.meetings:
        shared = sorted_set(units.find(meeting.shared))
        grouped, first = np.unique(units.find(meeting.grouped), return_index=True)
        for name, axes in named.items():
            inner = [a for a, ids in axes.items() if np.array_equal(sorted_set(ids), shared)]
            outer = [a for a, ids in axes.items() if np.array_equal(sorted_set(ids), grouped)]
            if inner and outer and inner != outer:
                group = meeting.group[first][np.searchsorted(grouped, axes[outer[0]])]
                each = len(sorted_set(group)) == len(group)
                for axis in axes.keys() - {outer[0]} if each else inner[:1]:
                    found.setdefault(name, {})[axis] = outer[0], group
    return found


def _own_units(units: Units, parameter: Parameter) -> dict[int, Ids]:
    """Per axis that adopted no units, its own."""
    ndim = len(parameter.shape)
    return {
        axis: units.find(ids)
        for axis, ids in enumerate(parameter.positions)
        if any(np.array_equal(c, along(ids, axis, ndim)) for c in parameter.coordinates)
    }


def name_in_groups(units: Units, parameter: Parameter, groups: Groups) -> None:
    """Give a parameter units per group, which it gets on the axes where it adopts none."""
    for axis, (outer, group) in groups.get(parameter.name, {}).items():
        n, ndim = parameter.shape[axis], len(parameter.shape)
        ids = units.fresh((int(group.max()) + 1) * n)
        index = along(group, outer, ndim) * n + along(np.arange(n), axis, ndim)
        parameter.in_groups[axis] = ids[index]
