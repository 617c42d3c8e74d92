"""Cycle-consistent merging: one permutation per model, into a universe, all found at once.

Models that are aligned in pairs contradict each other: from A to B to C and back to A leads
elsewhere. Here every model has one permutation into a common universe of units, so that what leads
from A to B, by the universe, composes to the identity around every cycle. They maximise the sum
over all pairs of models of their inner products, in two parts: by Frank-Wolfe on doubly stochastic
matrices, all models and blocks at once (:mod:`fxrebasin.merging.joint`), and then model by model,
exactly.

Source: D. Crisostomi et al., "C2M3: Cycle-Consistent Multi-Model Merging", NeurIPS 2024.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch

from ..arguments import check_real, check_whole
from ..errors import InvalidArgumentError
from ..matching.solvers import Solver, coordinate_descent
from ..matching.transforms.acting import value_at
from ..matching.trees import trees_of
from ..models.surroundings import neutral
from ..objectives import Objective
from ..objectives import weights as weights_of
from ..symmetry.group import Symmetry
from ..symmetry.transform import Transform
from .average import State
from .joint import maximise_jointly
from .many import improve
from .merged import Merged
from .problem import Problem, pose


@neutral()
def cycle_consistent(
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
    steps: int = 20,
    spread: float = 0.75,
    patience: int = 5,
    max_sweeps: int = 100,
) -> Merged:
    """Map all models into one universe at once, whatever their order, and average there.

    >>> import torch, fxrebasin as fr
    >>> nets = [torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)) for _ in "abc"]
    >>> symmetry = fr.analyze(nets[0], args=(torch.zeros(1, 4),))
    >>> states = [net.state_dict() for net in nets]
    >>> merged = fr.merge_methods.cycle_consistent(symmetry, states, progress=False)
    >>> a, b, c = merged.permutations
    >>> b_to_a, c_to_b, a_to_c = (
    ...     one.inverse().compose(other) for one, other in ((a, b), (b, c), (c, a))
    ... )
    >>> b_to_a.compose(c_to_b).compose(a_to_c).is_identity
    True

    The model that weighs most, and among equals the one whose objective with itself is largest, has
    the units of the universe; that is a choice of their names. The matrices of all others begin
    between the uniform one and where the model is, and move together, as far as the objective rises
    along a line, until that gains nothing; then they are rounded. Blocks that are nested in others
    have no such matrices: they begin where ``solver`` aligns a model with the first of the
    universe. At last each model is aligned with the mean of the others, as in :func:`many`, but in
    the order of their weights and norms, until that gains nothing. Signs of units, where they may
    change, do so only then.

    Nothing is drawn and no place in the sequence matters: permutations of the same models in
    another order lead to the same one model up to the names of its units, unless models tie.

    Args:
        symmetry, models, weights, objective, solver, device, progress: see
            :class:`fxrebasin.MergeMethod`.
        seed: of the solver.
        steps: of Frank-Wolfe, at most. Each takes a linear assignment for every block of every
            model, and as many evaluations as the objective has degrees along a line: 4 where
            tensors have units on two axes.
        spread: the share of the uniform matrix, from 0 to 1, in the matrices at the start.
        patience: how many steps that gain less than a millionth there may be in a row.
        max_sweeps: of the alignments one by one.

    Returns:
        The ``history`` begins with the models as they came, and never falls; what follows is the
        joint alignment, where it was better, and then the sweeps.

    Memory: two models in float32, what the solver keeps, and a square matrix for every block of
    every model, up to four times.

    Raises:
        InvalidArgumentError, ArchitectureMismatchError, InvalidParameterError: see
            :class:`fxrebasin.MergeMethod`; or an option makes no sense.

    Warns:
        ConvergenceWarning: the limit was hit while sweeps still improved.

    Source:
        D. Crisostomi et al., "C2M3: Cycle-Consistent Multi-Model Merging", NeurIPS 2024; without
        nested blocks, and without what follows the rounding. There all matrices move, the first
        model's as well, which has as many optima as the universe has names.
    """
    problem = pose(symmetry, models, weights, objective, solver, seed, device, progress)
    check_whole(steps, "steps", least=0)
    check_real(spread, "spread")
    check_whole(patience, "patience", least=1)
    check_whole(max_sweeps, "max_sweeps", least=0)
    if not 0 <= spread <= 1:
        raise InvalidArgumentError(f"spread: expected a number from 0 to 1, found {spread}")
    found: Sequence[Transform] = problem.unmoved
    history = [problem.value(found)]
    if len(problem) > 1:
        order = by_size(problem)
        moved = problem.permuting()
        joint = maximise_jointly(
            moved, _begin(moved, order), order, steps=steps, spread=spread, patience=patience
        )
        value = problem.value(joint)
        if value > history[-1]:
            found = joint
            history.append(value)
        found = improve(problem, found, itertools.repeat(order), history, max_sweeps=max_sweeps)
    return problem.merged(found, history)


def by_size(problem: Problem) -> list[int]:
    """The models in the order of their weights, and then of their objectives with themselves."""
    identity = problem.unmoved[0]
    sizes = [value_at(problem.products(state, state), identity) for state in problem.models]
    return sorted(range(len(problem)), key=lambda k: (-problem.weights[k], -sizes[k]))


def _begin(problem: Problem, order: Sequence[int]) -> list[Transform]:
    """Where the search begins; what has no matrices is aligned with the first model."""
    found: list[Transform] = list(problem.unmoved)
    first = problem.models[order[0]]
    if all(tree.is_flat for tree in trees_of(problem.products(first, first))):
        return found
    for k in order[1:]:
        found[k] = problem.align(problem.models[k], first)
    return found
