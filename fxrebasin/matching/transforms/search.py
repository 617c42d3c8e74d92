"""Better optima over the whole group: begin elsewhere, climb again, and keep the best."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from ..alignment import Round
from ..climbing import climb
from ..schedules import Schedule
from ..search import Budget
from .descent import TransformDescent


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


def _kick(descent: TransformDescent, schedule: Schedule, number: int) -> str:
    if number % 2 == 0:
        seed = int(schedule.generator.integers(2**63))
        descent.scatter(torch.Generator().manual_seed(seed))
        return "restart"
    count = len(descent.trees)
    chosen: Sequence[int] = schedule.generator.permutation(count)[: (count + 1) // 2].tolist()
    descent.rebuild(chosen)
    return "rebuild"
