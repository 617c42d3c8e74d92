"""Merging by aligning every model once: with the first, or with the mean of those before it.

Sources: the two simple ways in X. Qu and S. Horváth, "Rethinking Model Re-Basin and Linear Mode
Connectivity", CPAL 2025; the mean without alignment is that of M. Wortsman et al., "Model Soups",
ICML 2022.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..matching.solvers import Solver, coordinate_descent
from ..models.surroundings import neutral
from ..objectives import Objective
from ..objectives import weights as weights_of
from ..symmetry.group import Symmetry
from ..symmetry.transform import Transform
from .average import State
from .merged import Merged
from .problem import pose


@neutral()
def mean(
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
) -> Merged:
    """Average models as they are; nothing is aligned.

    >>> import torch, fxrebasin as fr
    >>> nets = [torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)) for _ in "ab"]
    >>> symmetry = fr.analyze(nets[0], args=(torch.zeros(1, 4),))
    >>> a, b = (net.state_dict() for net in nets)
    >>> merged = fr.merge_methods.mean(symmetry, [a, b], weights=[3, 1])
    >>> torch.allclose(merged.state_dict["0.bias"], 0.75 * a["0.bias"] + 0.25 * b["0.bias"])
    True

    Args:
        symmetry, models, weights, device: see :class:`fxrebasin.MergeMethod`.
        objective, solver, seed, progress: nothing is compared, so they change nothing.

    Memory: the result in float32 and one tensor.

    Raises:
        InvalidArgumentError, ArchitectureMismatchError, InvalidParameterError: see
            :class:`fxrebasin.MergeMethod`.
    """
    problem = pose(symmetry, models, weights, objective, solver, seed, device, progress)
    return problem.merged(problem.unmoved, ())


@neutral()
def to_reference(
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
) -> Merged:
    """Align every model with the first, and average.

    >>> import torch, fxrebasin as fr
    >>> nets = [torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)) for _ in "abc"]
    >>> symmetry = fr.analyze(nets[0], args=(torch.zeros(1, 4),))
    >>> states = [net.state_dict() for net in nets]
    >>> merged = fr.merge_methods.to_reference(symmetry, states, progress=False)
    >>> found = fr.match(symmetry, states[1], to=states[0], progress=False)
    >>> merged.permutations[1] == found
    True

    The first model is like no other here: the others are aligned with it and not with each other,
    and the objective may even fall. See :func:`many`.

    Args:
        symmetry, models, weights, objective, solver, seed, device, progress: see
            :class:`fxrebasin.MergeMethod`.

    Memory: two models, and what the solver keeps.

    Raises:
        InvalidArgumentError, ArchitectureMismatchError, InvalidParameterError: see
            :class:`fxrebasin.MergeMethod`.
    """
    problem = pose(symmetry, models, weights, objective, solver, seed, device, progress)
    found: list[Transform] = [problem.unmoved[0]]
    found += [problem.align(model, models[0]) for model in models[1:]]
    return problem.merged(found, (problem.value(problem.unmoved), problem.value(found)))


@neutral()
def sequential(
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
) -> Merged:
    """Align every model with the weighted mean of those before it, and average.

    >>> import torch, fxrebasin as fr
    >>> nets = [torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)) for _ in "abc"]
    >>> symmetry = fr.analyze(nets[0], args=(torch.zeros(1, 4),))
    >>> states = [net.state_dict() for net in nets]
    >>> print(fr.merge_methods.sequential(symmetry, states, progress=False).permutations[0])
    Permutation(0 of 8 units moved)

    Args:
        symmetry, models, weights, objective, solver, seed, device, progress: see
            :class:`fxrebasin.MergeMethod`.

    Memory: the running mean in float32, one model, and what the solver keeps.

    Raises:
        InvalidArgumentError, ArchitectureMismatchError, InvalidParameterError: see
            :class:`fxrebasin.MergeMethod`.
    """
    problem = pose(symmetry, models, weights, objective, solver, seed, device, progress)
    before = problem.value(problem.unmoved)
    found = problem.align_in_turn(range(len(problem)))
    return problem.merged(found, (before, problem.value(found)))
