"""Curves from one model to another, a tensor at a time.

A curve is a function that is given the name of a parameter, its values in both models, and how far
along the way it is (0 at the start, 1 at the end). Those here are

* :func:`linear`: the straight line;
* :func:`spherical`: along an arc, on which the norm of a tensor does not sink in the middle;
* :class:`Bezier`: a parabola that a third model, its control point, pulls towards itself.

A curve of your own is a function like these:

>>> import torch
>>> from torch import nn
>>> import fxrebasin as fr
>>> def eased(name, start, end, t):
...     return torch.lerp(start, end, t * t * (3 - 2 * t))
>>> path = fr.interpolate(nn.Linear(2, 2), nn.Linear(2, 2), lambda m: 0.0, curve=eased)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from ..arguments import check_function, refuse
from ..models.validation import check_state_dict, check_tensor
from .tensors import computing, tensors_of

__all__ = ["Bezier", "Curve", "linear", "spherical"]

STRAIGHT = 1e-4
"""Of the sine of an angle, in radians: where it is less, an arc and its chord are the same but for
rounding, or lead in opposite directions, where no arc is shorter than all others."""


class Curve(Protocol):
    """A function from the values of a parameter in two models to those between them."""

    def __call__(self, name: str, start: Tensor, end: Tensor, t: float, /) -> Tensor:
        """The values at ``t``, of the shape of both; strictly between the ends, ``0 < t < 1``."""
        ...


def linear(name: str, start: Tensor, end: Tensor, t: float) -> Tensor:
    """The straight line: ``(1 - t) start + t end``.

    >>> linear("weight", torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), 0.5)
    tensor([0.5000, 0.5000])
    """
    return torch.lerp(start, end, t)


def spherical(name: str, start: Tensor, end: Tensor, t: float) -> Tensor:
    """Along the arc between two directions, each tensor taken as one vector.

    With ``w`` the angle between them, ``(sin((1 - t) w) start + sin(t w) end) / sin(w)``. Vectors
    of one norm keep it all along, where the middle of the straight line between vectors at a right
    angle has lost 29 % of it. Where there is no arc, the straight line takes its place: between
    parallel tensors, which it is the same as; between opposite ones, and from or to zero.

    >>> spherical("weight", torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), 0.5)
    tensor([0.7071, 0.7071])

    Source:
        K. Shoemake, "Animating Rotation with Quaternion Curves", SIGGRAPH 1985.
    """
    angle = _angle(start, end)
    if math.sin(angle) < STRAIGHT:
        return linear(name, start, end, t)
    before, after = (math.sin(s * angle) / math.sin(angle) for s in (1 - t, t))
    return before * start + after * end


class Bezier:
    """A quadratic Bezier curve: ``(1 - t)^2 start + 2 t (1 - t) control + t^2 end``.

    It leaves the start towards the control point and reaches the end from there; half way it has
    come half of the way from the middle of the line to the control point.

    >>> half = Bezier({"weight": torch.tensor([2.0])})
    >>> half("weight", torch.tensor([0.0]), torch.tensor([0.0]), 0.5)
    tensor([1.])

    Args:
        control: the control point: a model, or its state dict, as
            :func:`fxrebasin.train_bezier` returns it. Not changed.

    Raises:
        InvalidArgumentError: it is neither.

    Source:
        Garipov et al., "Loss Surfaces, Mode Connectivity, and Fast Ensembling of DNNs", NeurIPS
        2018, section 3.2.
    """

    def __init__(self, control: nn.Module | Mapping[str, Tensor]) -> None:
        if isinstance(control, nn.Module):
            control = tensors_of(control)
        check_state_dict(control, "control")
        self.control = control

    def __call__(self, name: str, start: Tensor, end: Tensor, t: float) -> Tensor:
        return bent(start, self.control[name].detach().to(start.device, start.dtype), end, t)

    def check(self, parameters: Mapping[str, Tensor]) -> None:
        """Refuse models of which the control point is none.

        Raises:
            InvalidArgumentError: it lacks a parameter, or has one of another shape.
            InvalidParameterError: one of its tensors has no values.
        """
        for name, parameter in parameters.items():
            expected = f"a control point with {name!r} of shape {tuple(parameter.shape)}"
            if name not in self.control:
                advice = "give the state dict of a model of the same architecture"
                refuse("control", expected, dict(self.control), advice)
            given = self.control[name]
            check_tensor(given, f"control[{name!r}]")
            if given.shape != parameter.shape:
                refuse("control", expected, given)


def bent(start: Tensor, control: Tensor, end: Tensor, t: float) -> Tensor:
    """The point of a quadratic Bezier curve."""
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end


def as_curve(given: Curve | str) -> Curve:
    """The curve that is meant: a function, or one of the names of the two that need nothing else.

    Raises:
        InvalidArgumentError: it is no function, and no such name.
    """
    known = {"linear": linear, "spherical": spherical}
    if isinstance(given, str) and given in known:
        return known[given]
    if isinstance(given, str):
        advice = "give fr.curves.Bezier(control), with what fr.train_bezier returns"
        refuse("curve", "'linear', 'spherical' or a function", given, advice)
    check_function(given, "curve", "one of fr.curves, such as fr.curves.spherical")
    return given


def name_of(curve: Curve) -> str:
    """What a curve is called in tables: functions have names, but for lambdas and partial ones."""
    if isinstance(curve, Bezier):
        return "bezier"
    named = getattr(curve, "__name__", "<none>")
    return "own" if named.startswith("<") else str(named)


def _angle(start: Tensor, end: Tensor) -> float:
    """Between two tensors as vectors, in radians; 0 where one of them is zero.

    Half of it is that between the sum and the difference of the two directions, which is as
    precise for small angles as for large ones (W. Kahan, "How Futile are Mindless Assessments of
    Roundoff in Floating-Point Computation?", section 12).
    """
    directions = []
    for tensor in (start, end):
        vector = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
        vector = computing(vector).to(torch.float64).ravel()
        norm = torch.linalg.vector_norm(vector)
        if not norm > 0:
            return 0.0
        directions.append(vector / norm)
    one, other = directions
    apart, together = (float(torch.linalg.vector_norm(v)) for v in (one - other, one + other))
    return 2 * math.atan2(apart, together)
