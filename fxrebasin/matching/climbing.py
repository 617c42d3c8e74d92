"""Where a descent begins, and sweeps until nothing changes: the same over every group."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from ..symmetry.transform import Transform
from .progress import Progress
from .schedules import Schedule


class Climber(Protocol):
    """An element of a group, and how to go on from it."""

    total: float
    """The objective there."""

    @property
    def trees(self) -> Sequence[object]: ...
    @property
    def at(self) -> Any:
        """Where it is, in the form that :meth:`return_to` takes."""

    @property
    def permutation(self) -> Transform: ...
    def move_to(self, start: Transform, /) -> None:
        """Go on from another element."""

    def return_to(self, at: Any, /) -> None:
        """Go on from where it has been before."""

    def evaluate(self) -> None:
        """Compute the objective exactly."""

    def rebuild(self, numbers: Collection[int], announce: Callable[[], None], /) -> None:
        """Place trees by what is settled of their neighbours; the objective may fall."""

    def sweep(self, order: Sequence[int], announce: Callable[[], None], /) -> bool:
        """Visit every tree once; True if another sweep may be worth it."""

    def gains(self) -> dict[str, float]:
        """Per root of a tree, what the objective would lose if it alone went back."""


def place(descent: Climber, start: Transform | None, told: Progress) -> None:
    """Go where the descent begins: by default wherever the neighbours put each block in turn,
    unless the identity is better."""
    if start is not None:
        descent.move_to(start)
        return
    identity, before = descent.at, descent.total

    def announce() -> None:
        if told.is_watched:
            descent.evaluate()
        told.step(max(descent.total, before))

    try:
        descent.rebuild(range(len(descent.trees)), announce)
    finally:
        descent.evaluate()
        if descent.total <= before:
            descent.return_to(identity)


def climb(
    descent: Climber,
    schedule: Schedule,
    history: list[float],
    announce: Callable[[], None] = lambda: None,
    is_over: Callable[[], bool] = lambda: False,
) -> bool:
    """Sweep until nothing changes any more; True if it came to that.

    The objective after each sweep is appended to ``history``.
    """
    for order in schedule.orders(len(descent.trees)):
        if is_over():
            break
        goes_on = descent.sweep(order, announce)
        history.append(descent.total)
        if not goes_on:
            return True
    return False
