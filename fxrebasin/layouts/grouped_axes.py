"""Axes of parameters that turn out to be in groups after they got units.

The weight of a grouped convolution, of shape ``(g o) i``, has ``g`` groups along its first axis,
and the ``i`` input channels of each group are other ones. If the weight is normalised before it is
used, it has units already when the convolution says so, and one set of ``i`` units for all groups:
fewer permutations than there are. :func:`note_groups` takes note of that, and :func:`find_groups`
says which axes need units per group; the model is then run once more, with these.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from .coordinates import along, varies_on
from .ids import Ids, sorted_set
from .layout import Layout, Parameter
from .units import Meeting, Units

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
