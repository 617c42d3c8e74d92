"""Coordinate descent: the solver that is used by default.

Blocks are solved one after another, each step a linear assignment problem, until none improves
(:mod:`fxrebasin.matching.descent`); with a budget, better optima are looked for afterwards
(:mod:`fxrebasin.matching.search`). Where blocks may change signs or be rotated as well, their steps
are signed assignments and orthogonal Procrustes problems (:mod:`fxrebasin.matching.transforms`).

Source: S. Ainsworth, J. Hayase and S. Srinivasa, "Git Re-Basin", ICLR 2023, algorithm 1,
extended to nested blocks, to blocks on several axes of a tensor, and to joint moves.
"""

from __future__ import annotations

import contextlib
import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ..arguments import check_flag, check_function, check_kind, check_whole, refuse
from ..errors import ConvergenceWarning, InvalidArgumentError
from ..symmetry.permutation import Permutation
from ..symmetry.transform import Transform
from .alignment import Alignment, Round, check_search, check_searched
from .climbing import Climber, climb, place
from .descent import Descent
from .inner_products import InnerProducts
from .progress import Callback, Progress, Stopped
from .schedules import Order, Schedule, random_order
from .search import Budget, search
from .sorted_weights import upper_bound
from .transforms import search as larger
from .transforms.descent import TransformDescent
from .transforms.groups import steps_of

logger = logging.getLogger(__name__)


def coordinate_descent(
    objective: InnerProducts,
    *,
    start: Transform | None = None,
    seed: int = 0,
    callback: Callback | None = None,
    progress: bool = True,
    max_sweeps: int = 100,
    order: Order = random_order,
    budget: Budget | None = None,
    bound: bool = False,
) -> Alignment:
    """Improve one block after another until no block alone can be improved.

    >>> from functools import partial
    >>> import torch, fxrebasin as fr
    >>> a, b = (torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)) for _ in "ab")
    >>> symmetry = fr.analyze(b, args=(torch.zeros(1, 4),))
    >>> once = partial(fr.solvers.coordinate_descent, max_sweeps=0)
    >>> placed = fr.match(symmetry, b.state_dict(), to=a.state_dict(), solver=once)

    Args:
        objective, start, callback, progress: see :class:`fxrebasin.solvers.Solver`. Without
            ``start``, every block is first placed by what is settled of its neighbours. Where
            ``torch.set_float32_matmul_precision`` allows for coarser products, gains that their
            rounding could pretend are computed in float64.
        seed: of orders, and of what a budget is spent on.
        max_sweeps: visits of every block before giving up. 0 leaves every block where it is first
            placed, which most often is most of the gain.
        order: of the visits: :func:`fxrebasin.schedules.random_order`, ``graph_order``,
            ``alternating_order``, or a function like them.
        budget: spend time or rounds on better optima; by default one descent.
        bound: also compute an upper bound of the objective; about as long as a sweep. None is known
            where units are mixed.

    Memory: views of both models where their layout and dtype allow it, copies where not, and cost
    matrices that are kept as long as they are no larger than both models together. Besides, the
    largest cost matrix.

    Raises:
        InvalidArgumentError: an option makes no sense.

    Warns:
        ConvergenceWarning: the iteration limit was hit before a sweep changed nothing.
    """
    begin = time.perf_counter()
    check_search(objective, start, seed, callback, progress)
    check_whole(max_sweeps, "max_sweeps", least=0)
    check_function(order, "order", "one of fr.schedules, such as fr.schedules.random_order")
    if budget is not None:
        advice = "give fr.Budget(seconds=60) or fr.Budget(rounds=8)"
        check_kind(budget, Budget, "budget", "a Budget or None", advice)
    check_flag(bound, "bound")
    if budget is not None and max_sweeps == 0:
        raise InvalidArgumentError(
            "budget: a search for better optima descends, found max_sweeps=0; give at least 1"
        )
    descent, improve = _beginning(objective, start)
    before = descent.total
    schedule = Schedule(order, np.random.default_rng(seed), max_sweeps)
    history: list[float] = []
    rounds: list[Round] = []
    converged = False
    title = objective.name if progress else None
    with (
        Progress(title, callback, begin=begin, before=before) as told,
        contextlib.suppress(Stopped),
    ):
        place(descent, start, told)
        converged = _descend(descent, schedule, history, told)
        if max_sweeps and not converged:
            warnings.warn(
                f"{objective.name} stopped after {max_sweeps} sweeps, while blocks were still "
                "changing; more sweeps are allowed by solver=partial(coordinate_descent, "
                "max_sweeps=...)",
                ConvergenceWarning,
                stacklevel=3,
            )
        if budget is not None:
            improve(descent, schedule, budget, rounds, told.step)
    found = Alignment(
        descent.permutation,
        before,
        descent.total,
        tuple(min(value, descent.total) for value in history),
        converged,
        time.perf_counter() - begin,
        descent.gains(),
        tuple(rounds),
        _bound(objective) if bound else None,
    )
    logger.info("%s", found)
    return found


def _bound(objective: InnerProducts) -> float:
    """What no element that is searched can exceed.

    Raises:
        InvalidArgumentError: units are mixed.
    """
    steps = steps_of(objective.symmetry, objective.group)
    if "orthogonal" in steps.values():
        refuse("bound", "False, since no bound is known where units are mixed", True)
    if not steps:
        return upper_bound(objective)
    sizes = [replace(term, a=term.a.abs(), b=term.b.abs()) for term in objective.terms]
    return upper_bound(InnerProducts(objective.symmetry, sizes))


Search = Callable[[Any, Schedule, Budget, list[Round], Callable[[float], None]], None]


def _beginning(objective: InnerProducts, start: Transform | None) -> tuple[Climber, Search]:
    """A descent over permutations, or over as much more as the objective and the kinds of blocks
    allow, and how to look for better optima of it."""
    steps = steps_of(objective.symmetry, objective.group)
    check_searched(start, steps)
    if steps or objective.kept:
        return TransformDescent(objective, steps, objective.kept), larger.search
    return Descent(objective, Permutation.identity(objective.symmetry).indices), search


def _descend(descent: Climber, schedule: Schedule, history: list[float], told: Progress) -> bool:
    """The first descent; True if it converged."""
    try:
        converged = climb(descent, schedule, history, lambda: told.step(descent.total))
    finally:
        descent.evaluate()
    if history:
        history[-1] = descent.total
    return converged
