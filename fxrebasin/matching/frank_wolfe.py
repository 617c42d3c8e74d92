"""Frank-Wolfe: a solver that moves all blocks at once.

Permutations are relaxed to doubly stochastic matrices (:mod:`fxrebasin.matching.relaxed`), so that
optima can be left in which each block alone is best. Nested blocks, whose relaxation is no product
of such matrices, are solved exactly in turn with all that is not nested.

Source: D. Crisostomi et al., "C2M3", NeurIPS 2024, section 3.
"""

from __future__ import annotations

import contextlib
import logging
import time

from ..arguments import check_real, check_whole
from ..errors import InvalidArgumentError
from ..symmetry.permutation import Permutation
from ..symmetry.transform import Transform
from .alignment import Alignment, check_search, check_searched
from .descent import RELATIVE_GAIN, Descent
from .inner_products import InnerProducts
from .progress import Callback, Progress, Stopped
from .relaxed import maximise_relaxed

logger = logging.getLogger(__name__)


def frank_wolfe(
    objective: InnerProducts,
    *,
    start: Transform | None = None,
    seed: int = 0,
    callback: Callback | None = None,
    progress: bool = True,
    steps: int = 20,
    spread: float = 0.75,
    max_rounds: int = 20,
) -> Alignment:
    """Maximise the relaxed objective over all blocks at once, and round.

    Only permutations are searched, whatever else the objective allows.

    A round takes ``steps`` with all blocks that are not nested and then solves the nested ones;
    rounds are repeated until one gains nothing.

    >>> import torch, fxrebasin as fr
    >>> a, b = (torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)) for _ in "ab")
    >>> symmetry = fr.analyze(b, args=(torch.zeros(1, 4),))
    >>> found = fr.match(symmetry, b.state_dict(), to=a.state_dict(), solver=fr.solvers.frank_wolfe)

    Args:
        objective, callback, progress: see :class:`fxrebasin.solvers.Solver`.
        start: the permutation to begin at; by default B as it is.
        seed: nothing is drawn, so it changes nothing.
        steps: of Frank-Wolfe in a round, at most; each costs as much as a sweep of coordinate
            descent.
        spread: the share of the uniform matrix, from 0 to 1, that is mixed into the first start.
        max_rounds: how many rounds there may be.

    Raises:
        InvalidArgumentError: an option makes no sense.
    """
    begin = time.perf_counter()
    check_search(objective, start, seed, callback, progress)
    check_searched(start, {})
    check_whole(steps, "steps")
    check_real(spread, "spread")
    check_whole(max_rounds, "max_rounds")
    if steps < 1 or max_rounds < 1 or not 0 <= spread <= 1:
        raise InvalidArgumentError(
            "steps and max_rounds must be at least 1 and spread from 0 to 1, got "
            f"steps={steps}, max_rounds={max_rounds}, spread={spread}"
        )
    descent = Descent(objective, Permutation.identity(objective.symmetry).indices)
    before = descent.total
    history: list[float] = []
    converged = False
    title = objective.name if progress else None
    with (
        Progress(title, callback, begin=begin, before=before) as told,
        contextlib.suppress(Stopped),
    ):
        if start is not None:
            descent.move_to(start)
        for mixed in [spread, *[0.0] * (max_rounds - 1)]:
            risen = _improve(descent, steps, mixed, told)
            history.append(descent.total)
            if not risen and not mixed:
                converged = True
                break
    found = Alignment(
        descent.permutation,
        before,
        descent.total,
        tuple(history),
        converged,
        time.perf_counter() - begin,
        descent.gains(),
    )
    logger.info("%s", found)
    return found


def _improve(descent: Descent, steps: int, spread: float, told: Progress) -> bool:
    """One round; True if the objective rose. Where it did not, nothing moves."""
    best, value = descent.indices, descent.total
    flat = [tree for tree in descent.trees if tree.is_flat and tree.terms]

    def is_over() -> bool:
        told.step(value)
        return False

    try:
        if flat:
            found = maximise_relaxed(
                descent.objective, best, flat, steps=steps, spread=spread, is_over=is_over
            )
            descent.return_to({**best, **found})
        for k, tree in enumerate(descent.trees):
            if not tree.is_flat:
                descent.visit([k])
    finally:
        descent.evaluate()
        risen = descent.total > value + RELATIVE_GAIN * abs(value)
        if not risen:
            descent.return_to(best)
    told.step(descent.total)
    return risen
