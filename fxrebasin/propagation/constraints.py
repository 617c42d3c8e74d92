"""Pins and ties on the user's word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..arguments import check_items, check_text, check_whole, refuse
from ..errors import InvalidArgumentError
from ..layouts.adoption import resolve
from ..layouts.causes import PinKind
from ..layouts.coordinates import varies_on
from ..layouts.facts import Facts
from ..layouts.ids import Ids
from ..layouts.layout import Layout, Parameter
from ..layouts.settling import settle
from ..layouts.units import Units

Axis = tuple[str, int]


@dataclass(frozen=True)
class Pin:
    """The units of an axis of a parameter may not move."""

    axis: Axis


@dataclass(frozen=True)
class Tie:
    """The units of two axes move together, position by position."""

    axes: tuple[Axis, Axis]


Constraint = Pin | Tie


def pin(name: str, dim: int) -> Pin:
    """Keep the units on one axis of a parameter where they are.

    >>> import torch, fxrebasin as fr
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 6), torch.nn.Linear(6, 2))
    >>> fr.analyze(net, (torch.zeros(1, 2),), constraints=[fr.pin("0.weight", 0)]).movable_units
    0
    """
    check_text(name, "name", "the name of a parameter")
    check_whole(dim, "dim")
    return Pin((name, dim))


def tie(one: Axis, other: Axis) -> Tie:
    """Have the units on two axes of the same size move together.

    >>> import torch, fxrebasin as fr
    >>> net = torch.nn.Sequential(*(torch.nn.Linear(n, m) for n, m in ((2, 6), (6, 6), (6, 2))))
    >>> together = fr.tie(("0.weight", 0), ("1.weight", 0))
    >>> fr.analyze(net, (torch.zeros(1, 2),), constraints=[together]).movable_units
    6
    """
    for axis, which in ((one, "one"), (other, "other")):
        if not isinstance(axis, (tuple, list)) or len(axis) != 2:
            refuse(which, "a name and a dim, as ('0.weight', 0)", axis)
        check_text(axis[0], f"{which}[0]", "the name of a parameter")
        check_whole(axis[1], f"{which}[1]")
    return Tie(((one[0], one[1]), (other[0], other[1])))


def check_constraints(given: object) -> None:
    """Refuse what is no list of constraints.

    Raises:
        InvalidArgumentError: naming the argument.
    """
    advice = "give [fr.pin('0.weight', 0)] or [fr.tie(('0.weight', 0), ('1.weight', 0))]"
    check_items(given, (Pin, Tie), "constraints", "a constraint", advice)


def impose(constraints: Sequence[Constraint], found: Facts) -> None:
    """Add the user's constraints to what an analysis has found.

    Raises:
        InvalidArgumentError: a parameter or axis does not exist, or axes cannot be tied.
    """
    for constraint in constraints:
        found.units.site = ""
        if isinstance(constraint, Pin):
            parameter, dim = _axis(found, constraint.axis)
            for coordinate in _coordinates(found.units, parameter):
                if dim in varies_on(coordinate):
                    text = f"pinned by the user: {parameter.name}, {dim}"
                    found.units.pin(coordinate, text, PinKind.CONSTRAINT)
        else:
            _tie(found, constraint)


def _axis(found: Facts, axis: Axis) -> tuple[Parameter, int]:
    name, dim = axis
    parameter = next((p for p in found.parameters if name in p.names), None)
    if parameter is None:
        known = ", ".join(p.name for p in found.parameters[:5])
        raise InvalidArgumentError(
            f"the model has no parameter {name!r} to pin or tie; it has {known}, ..."
        )
    ndim = len(parameter.shape)
    if not -ndim <= dim < ndim:
        raise InvalidArgumentError(
            f"{name!r} has {ndim} axes, so it has no axis {dim} to pin or tie"
        )
    return parameter, dim % ndim


def _coordinates(units: Units, parameter: Parameter) -> tuple[Ids, ...]:
    return resolve(units, parameter.layout()).coordinates


def _tie(found: Facts, constraint: Tie) -> None:
    (a, dim_a), (b, dim_b) = (_axis(found, axis) for axis in constraint.axes)
    n = a.shape[dim_a]
    if n != b.shape[dim_b]:
        raise InvalidArgumentError(
            f"{a.name!r} has {n} entries along axis {dim_a}, but {b.name!r} has "
            f"{b.shape[dim_b]} along axis {dim_b}; only axes of one size can be tied"
        )
    together = [*_alone(found, a, dim_a), *_alone(found, b, dim_b)]
    settle(found.units, Layout((n,), tuple(together)))


def _alone(found: Facts, parameter: Parameter, dim: int) -> list[Ids]:
    """The units of an axis, if they are the same for every index on the other axes."""
    coordinates = [c for c in _coordinates(found.units, parameter) if dim in varies_on(c)]
    if any(varies_on(c) != (dim,) for c in coordinates):
        raise InvalidArgumentError(
            f"axis {dim} of {parameter.name!r} holds other units for every index on its other "
            "axes, as the weight of a grouped convolution does; it cannot be tied"
        )
    return [np.ravel(c) for c in coordinates]
