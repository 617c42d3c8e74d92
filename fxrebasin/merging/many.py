"""Merging many models by aligning each with the mean of the others, again and again.

Source: S. Ainsworth, J. Hayase and S. Srinivasa, "Git Re-Basin", ICLR 2023, algorithm 3.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Sequence

import numpy as np
import torch

from ..arguments import check_flag, check_whole
from ..errors import ConvergenceWarning
from ..matching.solvers import Solver, coordinate_descent
from ..models.surroundings import neutral
from ..objectives import Objective
from ..objectives import weights as weights_of
from ..symmetry.group import Symmetry
from ..symmetry.transform import Transform
from .average import State
from .merged import Merged
from .problem import ENOUGH, Problem, pose

MOST = 0.99
"""Of the weight: a model that has more leaves too little of a sum for the others to be read off."""


@neutral()
def many(
    symmetry: Symmetry,
    models: Sequence[State],
    /,
    *,
    weights: Sequence[float] | None = None,
    objective: Objective = weights_of,
    solver: Solver = coordinate_descent,
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: bool = True,
    max_sweeps: int = 100,
    in_turn: bool = True,
) -> Merged:
    """Align each model with the mean of all others, in random order, until nothing improves.

    >>> import torch, fxrebasin as fr
    >>> nets = [torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)) for _ in "abc"]
    >>> symmetry = fr.analyze(nets[0], args=(torch.zeros(1, 4),))
    >>> states = [net.state_dict() for net in nets]
    >>> merged = fr.merge_methods.many(symmetry, states, progress=False)
    >>> list(merged.history) == sorted(merged.history)
    True

    The originals are kept, and permutations composed: no model is permuted twice. A model moves
    only where its objective with the others rises, and a sweep is kept only where that of all
    does, so that the sum of squared distances from the mean never grows.

    Args:
        symmetry, models, weights, objective, solver, device, progress: see
            :class:`fxrebasin.MergeMethod`.
        seed: of the orders, and of the solver.
        max_sweeps: visits of every model before giving up; 0 leaves them as they are first placed.
        in_turn: first place each model by those that are placed already, in random order, as in
            :func:`sequential`; where that is worse than the models as they came, these are where
            the sweeps begin. False begins there at once, as the source does: each model then first
            meets a mean of models that are not aligned.

    Returns:
        The ``history`` is that of the sweeps, and never falls.

    Memory: the running mean in float32, one model, and what the solver keeps.

    Raises:
        InvalidArgumentError, ArchitectureMismatchError, InvalidParameterError: see
            :class:`fxrebasin.MergeMethod`.

    Warns:
        ConvergenceWarning: the limit was hit while sweeps still improved.

    Source:
        S. Ainsworth, J. Hayase and S. Srinivasa, "Git Re-Basin", ICLR 2023, algorithm 3.
    """
    problem = pose(symmetry, models, weights, objective, solver, seed, device, progress)
    check_whole(max_sweeps, "max_sweeps", least=0)
    check_flag(in_turn, "in_turn")
    generator = np.random.default_rng(seed)
    found: Sequence[Transform] = problem.unmoved
    history = [problem.value(found)]
    if in_turn and len(problem) > 1:
        placed = problem.align_in_turn(generator.permutation(len(problem)).tolist())
        value = problem.value(placed)
        if value > history[-1]:
            found = placed
            history.append(value)
    orders = (generator.permutation(len(problem)).tolist() for _ in itertools.count())
    found = improve(problem, found, orders, history, max_sweeps=max_sweeps)
    return problem.merged(found, history)


def improve(
    problem: Problem,
    found: Sequence[Transform],
    orders: Iterable[Sequence[int]],
    history: list[float],
    *,
    max_sweeps: int,
) -> Sequence[Transform]:
    """Align each model with the mean of the others, in one order after the other, until a sweep
    does not raise the objective.

    Args:
        problem: the models.
        found: where to start.
        orders: of the models, one for each sweep.
        history: ends with the objective at the start; those of the sweeps are appended.
        max_sweeps: at most so many.
    """
    for order in itertools.islice(orders, max_sweeps):
        swept = sweep(problem, found, order)
        if all(new is old for new, old in zip(swept, found, strict=True)):
            return found
        value = problem.value(swept)
        gain = value - history[-1]
        if gain > 0:
            found = swept
            history.append(value)
        if not gain > ENOUGH * abs(value):
            return found
    if max_sweeps:
        warnings.warn(
            f"merging stopped after {max_sweeps} sweeps, while models were still moving; more are "
            "allowed by method=partial(fr.merge_methods.many, max_sweeps=...)",
            ConvergenceWarning,
            stacklevel=4,
        )
    return found


def sweep(problem: Problem, found: Sequence[Transform], order: Sequence[int]) -> list[Transform]:
    """Align each model once with the mean of all others. One that has all the weight stays."""
    swept = list(found)
    mean = problem.mean(swept)
    for k in order:
        model, weight = problem.models[k], problem.weights[k]
        others = [j for j in range(len(problem)) if j != k and problem.weights[j]]
        if not others:
            continue
        if weight < MOST * mean.total:
            mean.exclude(model, swept[k].move, weight)
        else:
            mean.clear()
            mean = problem.mean(swept, others)
        swept[k] = problem.align(model, mean, start=swept[k])
        mean.include(model, swept[k].move, weight)
    return swept
