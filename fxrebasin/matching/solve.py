"""Weight matching: align the units of B with those of A.

Blocks are solved one after another, each step a linear assignment problem, until none improves
(:mod:`fxrebasin.matching.descent`); with a budget, better optima are looked for afterwards
(:mod:`fxrebasin.matching.search`).

Source: S. Ainsworth, J. Hayase and S. Srinivasa, "Git Re-Basin", ICLR 2023, algorithm 1,
extended to nested blocks, to blocks on several axes of a tensor, and to joint moves.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Mapping

import numpy as np
import torch

from ..errors import ConvergenceWarning, InvalidArgumentError
from ..models.validation import check_state_dict
from ..symmetry.group import Symmetry
from ..symmetry.permutation import Permutation
from .alignment import Alignment, Round
from .descent import Descent
from .inner_products import WeightMatching
from .progress import Callback, Progress, Stopped
from .schedules import Order, Schedule, random_order
from .search import Budget, climb, search
from .sorted_weights import upper_bound


def weight_matching(
    symmetry: Symmetry,
    state_dict: Mapping[str, torch.Tensor],
    *,
    to: Mapping[str, torch.Tensor],
    seed: int = 0,
    max_sweeps: int = 100,
    order: Order = random_order,
    budget: Budget | None = None,
    start: Permutation | None = None,
    vector_weight: float = 1.0,
    bound: bool = False,
    callback: Callback | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Alignment:
    """Find the permutation of ``state_dict`` (B) whose weights are closest to those of ``to`` (A).

    >>> import torch, fxrebasin as fr
    >>> a, b = (torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)) for _ in "ab")
    >>> symmetry = fr.analyze(b, args=(torch.zeros(1, 4),))
    >>> states = {"state_dict": b.state_dict(), "to": a.state_dict()}
    >>> found = fr.weight_matching(symmetry, **states, progress=False)
    >>> longer = fr.weight_matching(symmetry, **states, budget=fr.Budget(rounds=4), progress=False)
    >>> longer.objective_after >= found.objective_after >= found.objective_before
    True

    Args:
        symmetry: the group, as found by :func:`fxrebasin.analyze`.
        state_dict: the weights of B; not changed.
        to: the weights of A; not changed. float16 and bfloat16 are computed in float32. Where
            ``torch.set_float32_matmul_precision`` allows for coarser products, gains that their
            rounding could feign are computed in float64.
        seed: of orders and starts. The result is deterministic for a seed, unless the budget is
            one of seconds.
        max_sweeps: visits of every block before giving up. 0 leaves every block where it is first
            placed, which most often is most of the gain.
        order: of the visits: :func:`fxrebasin.matching.schedules.random_order`, ``graph_order``,
            ``alternating_order``, or a function like them.
        budget: spend time or rounds on better optima; by default one descent.
        start: where the descent begins, such as what :func:`fxrebasin.activation_matching` found;
            by default every block is first placed by what is settled of its neighbours.
        vector_weight: how much biases and affines count, matrices counting 1.
        bound: also compute an upper bound of the objective; about as long as a sweep.
        callback: called at every step, such as a block that was solved, with a ``Step``: the
            ``objective`` of what stopping there would return, what is ``gained`` by that, and the
            ``seconds`` since the matching began. It raises ``StopIteration`` to stop, which is
            no reason for a warning.
        device: where to compute; by default where A is.
        progress: show a progress bar.

    Memory: views of both state dicts where their layout and dtype allow it, copies where not, and
    cost matrices that are kept as long as they are no larger than both models together. Besides,
    the largest cost matrix.

    Raises:
        ArchitectureMismatchError, InvalidParameterError: see :class:`WeightMatching`.
        InvalidArgumentError: an option makes no sense.

    Warns:
        ConvergenceWarning: the iteration limit was hit before a sweep changed nothing.
    """
    check_state_dict(state_dict, "state_dict")
    check_state_dict(to, "to")
    begin = time.perf_counter()
    objective = WeightMatching(symmetry, state_dict, to, device=device, vector_weight=vector_weight)
    return climbed(
        objective,
        begin=begin,
        seed=seed,
        max_sweeps=max_sweeps,
        order=order,
        budget=budget,
        start=start,
        bound=bound,
        callback=callback,
        progress="weight matching" if progress else None,
    )


def climbed(
    objective: WeightMatching,
    *,
    begin: float,
    seed: int = 0,
    max_sweeps: int = 100,
    order: Order = random_order,
    budget: Budget | None = None,
    start: Permutation | None = None,
    bound: bool = False,
    callback: Callback | None = None,
    progress: str | None = None,
) -> Alignment:
    """The permutation that an objective is highest at, as far as is found.

    Seconds are counted from ``begin``; ``progress`` titles a progress bar. For all else see
    :func:`weight_matching`.
    """
    if max_sweeps < 0:
        raise InvalidArgumentError(f"max_sweeps must be at least 0, got {max_sweeps}")
    if start is not None and not _fits(start, objective.symmetry):
        raise InvalidArgumentError(
            "start: expected a permutation of the blocks of this symmetry, found one of others; "
            "give one that was found with the same symmetry"
        )
    if budget is not None and max_sweeps == 0:
        raise InvalidArgumentError(
            "budget: a search for better optima descends, found max_sweeps=0; give at least 1"
        )
    descent = Descent(objective, objective.symmetry.identity().indices)
    before = descent.total
    schedule = Schedule(order, np.random.default_rng(seed), max_sweeps)
    history: list[float] = []
    rounds: list[Round] = []
    converged = False
    with (
        Progress(progress, callback, begin=begin, before=before) as told,
        contextlib.suppress(Stopped),
    ):
        _place(descent, start, told)
        converged = _descend(descent, schedule, history, told)
        if max_sweeps and not converged:
            warnings.warn(
                f"matching stopped after {max_sweeps} sweeps, while blocks were still changing",
                ConvergenceWarning,
                stacklevel=3,
            )
        if budget is not None:
            search(descent, schedule, budget, rounds, told.step)
    return Alignment(
        descent.permutation,
        before,
        descent.total,
        tuple(min(value, descent.total) for value in history),
        converged,
        time.perf_counter() - begin,
        descent.gains(),
        tuple(rounds),
        upper_bound(objective) if bound else None,
    )


def _place(descent: Descent, start: Permutation | None, told: Progress) -> None:
    """Go where the descent begins: by default wherever the neighbours put each block in turn,
    unless the identity is better."""
    if start is not None:
        descent.move_to(start.indices)
        return
    identity, before = descent.indices, descent.total

    def announce() -> None:
        if told.is_watched:
            descent.evaluate()
        told.step(max(descent.total, before))

    try:
        descent.rebuild(range(len(descent.trees)), announce)
    finally:
        if descent.total <= before:
            descent.move_to(identity)


def _descend(descent: Descent, schedule: Schedule, history: list[float], told: Progress) -> bool:
    """The first descent; True if it converged."""
    try:
        converged = climb(descent, schedule, history, lambda: told.step(descent.total))
    finally:
        descent.evaluate()
    if history:
        history[-1] = descent.total
    return converged


def _fits(permutation: Permutation, symmetry: Symmetry) -> bool:
    return {name: x.shape for name, x in permutation.indices.items()} == {
        block.name: (block.count, block.size) for block in symmetry
    }
