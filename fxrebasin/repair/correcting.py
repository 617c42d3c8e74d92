"""What statistics are to become, and what scale and shift that takes.

    y' = goal mean + (y - mean) * goal std / std

>>> import torch
>>> measured, goal = Moments(1), Moments(1)
>>> measured.update(torch.tensor([[0.0], [2.0]]), axis=1)
>>> goal.update(torch.tensor([[3.0], [9.0]]), axis=1)
>>> repair_of(goal_of([goal], [1.0]), measured)
Correction(scale=tensor([3.], dtype=torch.float64), shift=tensor([3.], dtype=torch.float64))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from .moments import Moments
from .places import Place

Method = Literal["repair", "rescale", "reshift"]

ENOUGH = 16
"""Examples and positions in a batch that is normalised by its own statistics."""


class Goal(NamedTuple):
    """The statistics that the channels of a place are to have; each ``[channels]``."""

    mean: Tensor
    std: Tensor
    is_quiet: Tensor
    """Which channels are constant in all parents."""


class Correction(NamedTuple):
    """``y -> scale * y + shift``, per channel."""

    scale: Tensor
    shift: Tensor


def goal_of(parents: Sequence[Moments], weights: Sequence[float]) -> Goal:
    """The weighted means of the parents' means and standard deviations."""
    shares = torch.tensor(weights, dtype=torch.float64)
    mean = torch.stack([parent.mean for parent in parents])
    std = torch.stack([parent.std for parent in parents])
    is_quiet = torch.stack([parent.is_quiet for parent in parents]).all(0)
    return Goal(shares @ mean, shares @ std, is_quiet)


def is_alive(goal: Goal, measured: Moments) -> Tensor:
    """Which channels can be corrected: what is constant, or not finite, is left alone."""
    figures = torch.stack([goal.mean, goal.std, measured.mean, measured.std])
    return ~goal.is_quiet & ~measured.is_quiet & torch.isfinite(figures).all(0) & (goal.std > 0)


def repair_of(goal: Goal, measured: Moments, *, shifts: bool = True) -> Correction:
    """REPAIR: the mean and the standard deviation become the goals.

    Where nothing takes a shift, the scale ``s > 0`` is that with the least

        (s std - goal std)^2 + (s mean - goal mean)^2,

    the squared Wasserstein distance of normal distributions; a goal of the other sign than the mean
    counts as 0. Whatever brings the deviation alone to its goal may multiply an error of the mean,
    and that of every layer after it.
    """
    if shifts:
        alive = is_alive(goal, measured)
        scale = torch.where(alive, goal.std / measured.std, 1.0)
        return Correction(scale, torch.where(alive, goal.mean - scale * measured.mean, 0.0))
    aim = (measured.mean * goal.mean).clamp(min=0.0) + measured.std * goal.std
    return _scaling(goal, measured, aim / (measured.mean.square() + measured.std.square()))


def rescale_of(goal: Goal, measured: Moments, *, shifts: bool = True) -> Correction:
    """RESCALE: the standard deviation becomes the goal, and the mean is scaled along."""
    return _scaling(goal, measured, goal.std / measured.std)


def _scaling(goal: Goal, measured: Moments, scale: Tensor) -> Correction:
    scale = torch.where(is_alive(goal, measured), scale, 1.0)
    return Correction(scale, torch.zeros_like(scale))


def reshift_of(goal: Goal, measured: Moments, *, shifts: bool = True) -> Correction:
    """RESHIFT: the mean becomes the goal, where something takes the shift."""
    moves = is_alive(goal, measured) & shifts
    shift = torch.where(moves, goal.mean - measured.mean, 0.0)
    return Correction(torch.ones_like(shift), shift)


METHODS: Mapping[str, Callable[..., Correction]] = {
    "repair": repair_of,
    "rescale": rescale_of,
    "reshift": reshift_of,
}


class Measuring:
    """Takes note of the values at places, and leaves them as they are."""

    def __init__(self) -> None:
        self.moments: dict[str, Moments] = {}

    def layer(self, place: Place, value: Tensor) -> Tensor:
        self._note(place, value)
        return value

    def norm(self, place: Place, given: Tensor) -> tuple[Tensor, Tensor] | None:
        self._note(place, given)
        return None

    def _note(self, place: Place, value: Tensor) -> Moments:
        """Take in a batch; the moments of that batch alone."""
        batch = Moments(place.channels)
        batch.update(value, place.axis)
        self.moments.setdefault(place.name, Moments(place.channels)).add(batch)
        return batch


@dataclass
class Correcting(Measuring):
    """Has the values at every place reach their goals while the pass runs.

    What follows a place is so measured on values that are corrected already, as where every layer
    is wrapped with a BatchNorm in train mode. A batch is corrected by its own statistics where mean
    and deviation both become goals, and it is not small: that way errors do not add up with depth.
    Otherwise it is by those of the pass so far: a scale of its own for every batch would have
    uncorrected means vary from batch to batch.
    """

    goals: Mapping[str, Goal]
    method: Method

    def __post_init__(self) -> None:
        super().__init__()

    def layer(self, place: Place, value: Tensor) -> Tensor:
        batch = self._note(place, value)
        both = self.method == "repair" and place.can_shift
        moments = self._enough(place, batch) if both else self.moments[place.name]
        scale, shift = self._correction(place, moments)
        view = [-1, *[1] * (value.ndim - 1 - place.axis % value.ndim)]
        scale, shift = (x.to(value.dtype).to(value.device).view(view) for x in (scale, shift))
        return value * scale + shift

    def norm(self, place: Place, given: Tensor) -> tuple[Tensor, Tensor]:
        moments = self._enough(place, self._note(place, given))
        return moments.mean, moments.variance

    def correction(self, place: Place) -> Correction:
        """What a place needs, by the statistics of all batches."""
        return self._correction(place, self.moments[place.name])

    def _correction(self, place: Place, moments: Moments) -> Correction:
        goal = self.goals[place.name]
        return METHODS[self.method](goal, moments, shifts=place.can_shift)

    def _enough(self, place: Place, batch: Moments) -> Moments:
        return batch if batch.count >= ENOUGH else self.moments[place.name]
