"""Power laws, fitted to what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from benchmarks.scaling.rows import Row

STEPS = ("discovery", "products", "assignment", "evaluation", "rest", "total", "memory")
"""Figures of a row that are fitted."""


class PowerLaw(NamedTuple):
    """``factor * size ** exponent``.

    >>> PowerLaw(factor=2.0, exponent=3.0).at(10)
    2000.0
    """

    factor: float
    exponent: float

    def at(self, size: float) -> float:
        return float(self.factor * size**self.exponent)


def upper_half(sizes: Sequence[int]) -> list[int]:
    """The larger half of the sizes, the middle one included, but two at least, in order.

    >>> upper_half([8, 1, 2, 4, 16])
    [4, 8, 16]
    """
    ordered = sorted(sizes)
    return ordered[-max((len(ordered) + 1) // 2, 2) :]


def fit(values: Mapping[int, float]) -> PowerLaw | None:
    """By least squares of logarithms, over the upper half of the sizes.

    Args:
        values: a figure per size.

    Returns:
        None where there is only one size, or a figure of the upper half is not positive.
    """
    sizes = upper_half(list(values))
    figures = [values[size] for size in sizes]
    if len(sizes) < 2 or not min(figures) > 0:
        return None
    exponent, intercept = np.polyfit(np.log(sizes), np.log(figures), 1)
    return PowerLaw(float(np.exp(intercept)), float(exponent))


@dataclass(frozen=True)
class Curve:
    """Networks of one family that differ in one axis only, the smallest first."""

    family: str
    axis: str
    """``width`` or ``depth``."""
    rows: tuple[Row, ...]

    @property
    def sizes(self) -> list[int]:
        return [getattr(row, self.axis) for row in self.rows]

    def fits(self) -> dict[str, PowerLaw | None]:
        """How each step grows along the axis, where that can be told."""
        return {
            step: fit({n: getattr(row, step) for n, row in zip(self.sizes, self.rows, strict=True)})
            for step in STEPS
        }


def seconds_per_problem(rows: Sequence[Row]) -> dict[int, float]:
    """Per size, the mean time of one assignment problem, over all rows.

    Small problems that were solved in batches count with their share of the batch.
    """
    problems: dict[int, int] = {}
    seconds: dict[int, float] = {}
    for row in rows:
        for solved in row.solved:
            problems[solved.size] = problems.get(solved.size, 0) + solved.batch * solved.calls
            seconds[solved.size] = seconds.get(solved.size, 0.0) + solved.seconds
    return {size: seconds[size] / problems[size] for size in sorted(problems)}


def interpolated(measured: Mapping[int, float], law: PowerLaw, size: int) -> float:
    """A figure between measured sizes, on a straight line of logarithms; beyond the largest, as the
    largest grows by the law.
    """
    sizes = sorted(measured)
    if size > sizes[-1]:
        return measured[sizes[-1]] * (size / sizes[-1]) ** law.exponent
    logs = np.log([measured[n] for n in sizes])
    return float(np.exp(np.interp(np.log(size), np.log(sizes), logs)))
