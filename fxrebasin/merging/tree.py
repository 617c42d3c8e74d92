"""Merging pair by pair: models in twos, their means in twos again, until one is left."""

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
from .problem import Problem, pose


@neutral()
def tree(
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
    """Align neighbours in pairs, then the means of the pairs in pairs, and so on.

    A mean weighs as much as all models in it. What moves it moves every model in it: permutations
    are composed, and the result is the mean of the originals.

    >>> import torch, fxrebasin as fr
    >>> nets = [torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)) for _ in "abcde"]
    >>> symmetry = fr.analyze(nets[0], args=(torch.zeros(1, 4),))
    >>> states = [net.state_dict() for net in nets]
    >>> merged = fr.merge_methods.tree(symmetry, states, progress=False)
    >>> len(merged.permutations), len(merged.history)
    (5, 4)

    Args:
        symmetry, models, weights, objective, solver, seed, device, progress: see
            :class:`fxrebasin.MergeMethod`.

    Returns:
        The ``history`` is that of the levels of the tree.

    Memory: two models in float32, and what the solver keeps. Means are computed afresh from the
    models at every level, which are as many readings of each as the tree has levels.

    Raises:
        InvalidArgumentError, ArchitectureMismatchError, InvalidParameterError: see
            :class:`fxrebasin.MergeMethod`.

    Source:
        The merge trees of the programs around Git Re-Basin (S. Ainsworth, J. Hayase and
        S. Srinivasa, ICLR 2023); pairs are aligned by its algorithm 1.
    """
    problem = pose(symmetry, models, weights, objective, solver, seed, device, progress)
    found: list[Transform] = list(problem.unmoved)
    history = [problem.value(found)]
    nodes = [[k] for k in range(len(models))]
    while len(nodes) > 1:
        for left, right in zip(nodes[::2], nodes[1::2], strict=False):
            step = problem.align(_state(problem, right, found), _state(problem, left, found))
            for k in right:
                found[k] = step.compose(found[k])
        pairs = [nodes[k : k + 2] for k in range(0, len(nodes), 2)]
        nodes = [[k for node in pair for k in node] for pair in pairs]
        history.append(problem.value(found))
    return problem.merged(found, history)


def _state(problem: Problem, members: Sequence[int], found: Sequence[Transform]) -> State:
    """A node of the tree: the mean of its models, or the one model itself."""
    if len(members) == 1:
        return problem.models[members[0]]
    return problem.mean(found, members)
