"""Weight matching: the inner product of A's weights with B's permuted ones.

Biases and affines enter as matrices of one column, so they vote by outer products; buffers are
permuted but do not vote, unless they move because ``movable`` names them: then they are weights.

Source: S. Ainsworth, J. Hayase and S. Srinivasa, "Git Re-Basin", ICLR 2023, section 3.2.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ..arguments import check_device, check_function, check_real
from ..errors import ArchitectureMismatchError, InvalidArgumentError, InvalidParameterError
from ..matching.alignment import Alignment, check_alignment
from ..matching.inner_products import InnerProducts, term
from ..matching.progress import Callback
from ..matching.solvers import Solver, coordinate_descent
from ..matching.transforms.groups import check_group
from ..models.surroundings import neutral
from ..models.validation import check_state_dict, check_tensor, explain_missing, is_finite
from ..symmetry.group import Symmetry, check_symmetry
from ..symmetry.parts import ParameterSymmetry
from ..symmetry.transform import Subgroup, Transform


@neutral()
def weights(
    symmetry: Symmetry,
    b: Mapping[str, torch.Tensor],
    a: Mapping[str, torch.Tensor],
    *,
    device: torch.device | str | None = None,
    vector_weight: float = 1.0,
) -> InnerProducts:
    """Compare the parameters of two state dicts.

    What is returned is searched over permutations, and signs where units have them; its
    ``over(group)`` over another part of the group.

    >>> import torch, fxrebasin as fr
    >>> a, b = (torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)) for _ in "ab")
    >>> symmetry = fr.analyze(b, args=(torch.zeros(1, 4),))
    >>> objective = fr.objectives.weights(symmetry, b.state_dict(), a.state_dict())
    >>> found = fr.solvers.coordinate_descent(objective, progress=False)
    >>> found.objective_after >= found.objective_before
    True

    Args:
        symmetry: the group to align over.
        b: the state dict that is permuted; not changed.
        a: the state dict it is aligned with; not changed. float16 and bfloat16 are computed in
            float32.
        device: where to compute; by default where ``a`` is.
        vector_weight: a factor for parameters with one axis, biases and affines. They count like
            everything else by default; where norms have large weights, they can outvote the
            matrices.

    Raises:
        ArchitectureMismatchError: the state dicts do not fit the symmetry or each other.
        InvalidParameterError: a parameter holds nan or inf.
        InvalidArgumentError: ``vector_weight`` is negative or not finite.
    """
    check_symmetry(symmetry)
    check_state_dict(b, "b")
    check_state_dict(a, "a")
    check_device(device)
    check_real(vector_weight, "vector_weight")
    if not 0 <= vector_weight < float("inf"):
        raise InvalidArgumentError(
            f"vector_weight must be a number from 0 upwards, got {vector_weight}"
        )
    names = [name for moves in symmetry.parameters for name in moves.names]
    for which, given in (("A", a), ("B", b)):
        if names and not any(name in given for name in names):
            raise ArchitectureMismatchError(explain_missing(names, given, f"model {which}"))
    terms = []
    for moves in symmetry.parameters:
        of_a, of_b = _tensor(a, moves, "A"), _tensor(b, moves, "B")
        if not moves.is_buffer and moves.groups:
            weight = vector_weight if len(moves.shape) == 1 else 1.0
            terms.append(term(moves, of_a, of_b, weight=weight, device=device))
    return InnerProducts(
        symmetry,
        terms,
        name="weight matching",
        group="signed",
        find_factors=lambda: symmetry.kinds.factors,
    )


@neutral()
def weight_matching(
    symmetry: Symmetry,
    state_dict: Mapping[str, torch.Tensor],
    *,
    to: Mapping[str, torch.Tensor],
    vector_weight: float = 1.0,
    group: Subgroup = "signed",
    solver: Solver = coordinate_descent,
    start: Transform | None = None,
    seed: int = 0,
    callback: Callback | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Alignment:
    """Find the permutation of ``state_dict`` (B) whose weights are closest to those of ``to`` (A).

    >>> import torch, fxrebasin as fr
    >>> from functools import partial
    >>> a, b = (torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)) for _ in "ab")
    >>> symmetry = fr.analyze(b, args=(torch.zeros(1, 4),))
    >>> states = {"state_dict": b.state_dict(), "to": a.state_dict()}
    >>> found = fr.weight_matching(symmetry, **states, progress=False)
    >>> longer = partial(fr.solvers.coordinate_descent, budget=fr.Budget(rounds=4))
    >>> better = fr.weight_matching(symmetry, **states, solver=longer, progress=False)
    >>> better.objective_after >= found.objective_after >= found.objective_before
    True

    Args:
        symmetry: the group, as found by :func:`fxrebasin.analyze`.
        state_dict, to, vector_weight, device: see :func:`weights`.
        group: what is searched, as in :func:`fxrebasin.match`.
        solver: a function like :func:`fxrebasin.solvers.coordinate_descent`, its options given by
            ``functools.partial``.
        start, seed, callback, progress: what every solver takes; see
            :class:`fxrebasin.solvers.Solver`.

    Raises:
        ArchitectureMismatchError, InvalidParameterError, InvalidArgumentError: see :func:`weights`
            and the solver.
    """
    check_symmetry(symmetry)
    check_group(group)
    check_function(solver, "solver", "fr.solvers.coordinate_descent")
    check_state_dict(state_dict, "state_dict")
    check_state_dict(to, "to")
    objective = weights(symmetry, state_dict, to, device=device, vector_weight=vector_weight)
    objective = objective.over(group)
    found = solver(objective, start=start, seed=seed, callback=callback, progress=progress)
    check_alignment(found)
    return found


def _tensor(
    state_dict: Mapping[str, torch.Tensor], parameter: ParameterSymmetry, which: str
) -> torch.Tensor:
    name = next((n for n in parameter.names if n in state_dict), None)
    if name is None:
        if parameter.is_buffer:
            return torch.empty(0)
        raise ArchitectureMismatchError(
            f"model {which} has no parameter {parameter.name!r}, which the symmetry moves"
        )
    if parameter.groups or not isinstance(state_dict[name], torch.Tensor):
        check_tensor(state_dict[name], f"{name!r} of model {which}")
    tensor = state_dict[name].detach()
    if tuple(tensor.shape) != parameter.shape:
        raise ArchitectureMismatchError(
            f"{name!r} has shape {tuple(tensor.shape)} in model {which}, but the symmetry was "
            f"found for shape {parameter.shape}"
        )
    weights = (tensor.is_floating_point() or tensor.is_complex()) and not parameter.is_buffer
    if weights and not is_finite(tensor):
        raise InvalidParameterError(
            f"{name!r} of model {which} holds nan or inf; repair or retrain the model first"
        )
    return tensor
