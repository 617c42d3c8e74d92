"""Look for better optima: descend, leave, descend again, and keep the best.

Coordinate descent ends where no block alone can improve. A budget of time or rounds is spent on
kicks out of such an optimum (:mod:`.kicks`), each followed by a descent; the kinds of kicks that
have gained most are tried more often.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..arguments import check_real, check_whole
from ..errors import InvalidArgumentError
from .alignment import Round
from .climbing import climb
from .descent import Descent
from .kicks import Kick, anneal, compare_signatures, hold_out, relax, restart
from .schedules import Schedule

KICKS: dict[str, Kick] = {
    "hold_out": hold_out,
    "compare_signatures": compare_signatures,
    "anneal": anneal,
    "relax": relax,
    "restart": restart,
}
"""In the order in which they are first tried."""

EXPLORATION = 0.25
"""The share of rounds in which any kick may be drawn, however little it has gained."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much to spend on better optima after the first descent: whatever ends first.

    Time is looked at between the sweeps of a descent and the steps of a relaxation.

    >>> Budget(rounds=8)
    Budget(seconds=inf, rounds=8)
    """

    seconds: float = math.inf
    rounds: int | None = None
    """Kicks that are tried, each followed by a descent."""

    def __post_init__(self) -> None:
        check_real(self.seconds, "seconds")
        if self.rounds is not None:
            check_whole(self.rounds, "rounds")
        if not self.seconds >= 0 or (self.rounds is not None and self.rounds < 0):
            raise InvalidArgumentError(
                "a budget's seconds must be a number and its rounds a whole number, both from 0 "
                f"upwards, got {self}"
            )
        if math.isinf(self.seconds) and self.rounds is None:
            raise InvalidArgumentError("a budget needs a limit: pass seconds=... or rounds=...")


def search(
    descent: Descent,
    schedule: Schedule,
    budget: Budget,
    rounds: list[Round],
    announce: Callable[[float], None],
) -> None:
    """Improve a descent that has converged; it ends at the best permutation found, also where
    ``announce``, which is told the objective of the best so far at every step, raises an error.

    What was tried is appended to ``rounds``. Deterministic for a generator if the budget is one
    of rounds.
    """
    best, value = descent.at, descent.total
    end = time.perf_counter() + budget.seconds

    def announce_best() -> None:
        announce(value)

    def is_over() -> bool:
        announce_best()
        return time.perf_counter() >= end

    try:
        while (budget.rounds is None or len(rounds) < budget.rounds) and not is_over():
            name = _draw(rounds, schedule.generator, timed=math.isfinite(budget.seconds))
            since = time.perf_counter()
            KICKS[name](descent, best, schedule.generator, is_over)
            climb(descent, schedule, [], announce_best, is_over)
            descent.evaluate()
            gained = max(descent.total - value, 0.0)
            if gained:
                best, value = descent.at, descent.total
            seconds = time.perf_counter() - since
            rounds.append(Round(name, descent.total, gained, seconds))
            announce_best()
    finally:
        descent.return_to(best)


def _draw(rounds: list[Round], generator: np.random.Generator, *, timed: bool) -> str:
    """Each kick once, then more often those that gained most, per round or per second, a fixed
    share of rounds apart."""
    if len(rounds) < len(KICKS):
        return [*KICKS][len(rounds)]
    tried = [[r for r in rounds if r.kick == name] for name in KICKS]
    spent = [sum(r.seconds for r in some) if timed else len(some) for some in tried]
    gained = np.array([sum(r.gained for r in some) for some in tried]) / np.array(spent)
    even = np.full(len(KICKS), 1 / len(KICKS))
    shares = gained / gained.sum() if gained.any() else even
    drawn = generator.choice(len(KICKS), p=(1 - EXPLORATION) * shares + EXPLORATION * even)
    return [*KICKS][int(drawn)]
