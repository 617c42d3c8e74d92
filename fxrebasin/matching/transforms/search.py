"""Better optima over the whole group: begin elsewhere, climb again, and keep the best."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from ...symmetry.transform import Transform
from ..alignment import Round
from ..progress import Progress
from ..schedules import Schedule
from ..search import Budget
from .descent import TransformDescent

TOLERANCE = 5e-4
"""A sweep that brings models closer by a smaller share of their squared distance is the last:
rotations of neighbours converge towards an optimum without reaching it. Of transformers of 3 layers
ten times as strict a limit takes three times as many sweeps, and the loss half way is the same."""


def place(descent: TransformDescent, start: Transform | None, told: Progress) -> None:
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


def search(
    descent: TransformDescent,
    schedule: Schedule,
    budget: Budget,
    rounds: list[Round],
    announce: Callable[[float], None],
) -> None:
    """Improve a descent that has converged; it ends at the best element found.

    Every other round begins at a random element of the group; those between draw half of the trees
    afresh, and place them by the others.
    """
    best, value = descent.at, descent.total
    end = time.perf_counter() + budget.seconds

    def is_over() -> bool:
        announce(value)
        return time.perf_counter() >= end

    try:
        while (budget.rounds is None or len(rounds) < budget.rounds) and not is_over():
            since = time.perf_counter()
            name = _kick(descent, schedule, len(rounds))
            climb(descent, schedule, [], is_over=is_over)
            gained = max(descent.total - value, 0.0)
            if gained:
                best, value = descent.at, descent.total
            else:
                descent.return_to(best)
            rounds.append(Round(name, value, gained, time.perf_counter() - since))
    finally:
        descent.return_to(best)


def climb(
    descent: TransformDescent,
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
        before = descent.total
        risen = descent.sweep(order, announce)
        history.append(descent.total)
        if not risen or descent.total - before <= TOLERANCE * (descent.limit - descent.total):
            return True
    return False


def _kick(descent: TransformDescent, schedule: Schedule, number: int) -> str:
    if number % 2 == 0:
        seed = int(schedule.generator.integers(2**63))
        descent.scatter(torch.Generator().manual_seed(seed))
        return "restart"
    count = len(descent.trees)
    chosen: Sequence[int] = schedule.generator.permutation(count)[: (count + 1) // 2].tolist()
    descent.rebuild(chosen)
    return "rebuild"
