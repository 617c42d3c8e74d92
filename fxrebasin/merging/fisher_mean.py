"""Means in which each model counts, entry by entry, as much as its Fisher information says.

Source: M. Matena and C. Raffel, "Merging Models with Fisher-Weighted Averaging", NeurIPS 2022.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..arguments import check_function, refuse
from ..errors import ArchitectureMismatchError, InvalidParameterError
from ..matching.solvers import Solver, coordinate_descent
from ..models.surroundings import neutral
from ..models.validation import check_state_dict, check_tensor, is_finite
from ..objectives import Objective
from ..objectives import weights as weights_of
from ..symmetry.group import Symmetry
from ..symmetry.parts import ParameterSymmetry
from ..symmetry.permutation import Permutation
from ..symmetry.transform import Transform
from .average import State, is_averaged, towards_
from .many import many
from .merged import Merged, check_merged
from .problem import Problem, pose
from .protocol import MergeMethod


@neutral()
def fisher_weighted(
    symmetry: Symmetry,
    models: Sequence[State],
    /,
    *,
    fisher: Sequence[State],
    align: MergeMethod = many,
    weights: Sequence[float] | None = None,
    objective: Objective = weights_of,
    solver: Solver = coordinate_descent,
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Merged:
    """Align models by another method, and weigh every entry of each by its Fisher information.

    An entry of the result is ``sum of w F x / sum of w F`` over models. Where all of these are 0,
    and in tensors for which there is no Fisher information, it is the weighted mean, which is the
    limit for equal ones. Fishers are permuted along with their models.

    >>> from functools import partial
    >>> import torch, fxrebasin as fr
    >>> nets = [torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)) for _ in "ab"]
    >>> symmetry = fr.analyze(nets[0], args=(torch.zeros(1, 4),))
    >>> data = [(torch.randn(16, 4), torch.randint(2, (16,)))]
    >>> fishers = [fr.fisher(net, data, progress=False) for net in nets]
    >>> method = partial(fr.merge_methods.fisher_weighted, fisher=fishers)
    >>> merged = method(symmetry, [net.state_dict() for net in nets], progress=False)

    Args:
        symmetry, models, weights, objective, solver, seed, device, progress: see
            :class:`fxrebasin.MergeMethod`.
        fisher: for every model, a mapping from names of its tensors to the Fisher information of
            their entries, as :func:`fxrebasin.fisher` returns it. These may also read a tensor when
            it is indexed, and they may lack names.
        align: the merge method whose permutations are taken, such as
            :func:`fxrebasin.merge_methods.mean` for models that are aligned already.

    Returns:
        What ``align`` returns, with another state dict.

    Memory: as ``align``; then the result and some tensors.

    Raises:
        InvalidArgumentError: ``fisher`` is no list of as many mappings, or ``align`` no method.
        ArchitectureMismatchError: a Fisher has another shape than the weights.
        InvalidParameterError: a Fisher is negative or not finite.
        ArchitectureMismatchError, InvalidArgumentError, InvalidParameterError: see
            :class:`fxrebasin.MergeMethod`.

    Source:
        M. Matena and C. Raffel, "Merging Models with Fisher-Weighted Averaging", NeurIPS 2022,
        equation 2.
    """
    problem = pose(symmetry, models, weights, objective, solver, seed, device, progress)
    _check_fishers(fisher, len(problem))
    check_function(align, "align", "fr.merge_methods.many")
    merged = align(
        symmetry,
        models,
        weights=weights,
        objective=objective,
        solver=solver,
        seed=seed,
        device=device,
        progress=progress,
    )
    check_merged(merged, "align")
    state_dict = copy.copy(merged.state_dict)
    return replace(merged, state_dict=_weighed(problem, fisher, merged.permutations, state_dict))


def _check_fishers(fisher: object, count: int) -> None:
    expected = f"a list of {count} mappings, one for each model"
    advice = "give [fr.fisher(model, data) for model in models]"
    if isinstance(fisher, (str, bytes, Mapping)) or not isinstance(fisher, Sequence):
        refuse("fisher", expected, fisher, advice)
    if len(fisher) != count:
        refuse("fisher", expected, fisher, advice)
    for k, one in enumerate(fisher):
        check_state_dict(one, f"fisher[{k}]")


def _weighed(
    problem: Problem,
    fisher: Sequence[State],
    permutations: Sequence[Transform],
    result: dict[str, Tensor],
) -> dict[str, Tensor]:
    """The plain mean, with every tensor replaced of which all models have the Fisher."""
    done: dict[int, Tensor] = {}
    for moves in problem.symmetry.parameters:
        for name in moves.names:
            plain = result.get(name)
            known = all(_name_of(one, name, moves) is not None for one in fisher)
            if plain is None or not known or not is_averaged(plain):
                continue
            if id(plain) not in done:
                done[id(plain)] = _tensor(problem, fisher, permutations, moves, name, plain)
            result[name] = done[id(plain)]
    return result


def _tensor(
    problem: Problem,
    fisher: Sequence[State],
    permutations: Sequence[Transform],
    moves: ParameterSymmetry,
    name: str,
    plain: Tensor,
) -> Tensor:
    """The mean of one tensor. Where nothing has weight, the plain mean stays."""
    dtype = torch.promote_types(plain.dtype, torch.float32)
    result = plain.to(problem.device, dtype, copy=True)
    total = torch.zeros(result.shape, dtype=result.real.dtype, device=result.device)
    for k, permutation in enumerate(permutations):
        known = _name_of(fisher[k], name, moves)
        assert known is not None
        information = _checked(fisher[k][known], f"fisher[{k}][{known!r}]", moves.shape)
        own = _moved(permutation, moves, information).to(total.device, total.dtype)
        own = own * problem.weights[k]
        total += own
        share = torch.where(total > 0, own / total, torch.zeros_like(total))
        # The first that weighs anything takes the place of the plain mean.
        towards_(result, permutation.move(moves, problem.models[k][name]), share)
    return result.to(plain.device, plain.dtype)


def _moved(transform: Transform, moves: ParameterSymmetry, information: Tensor) -> Tensor:
    """Fisher information where units are moved to: it does not ask for their signs.

    Raises:
        InvalidArgumentError: units are mixed, of which no more is known than of each alone.
    """
    if transform.matrices:
        refuse("align", "a method that permutes units and changes signs", transform)
    return Permutation(transform.symmetry, transform.indices).move(moves, information)


def _name_of(one: State, name: str, moves: ParameterSymmetry) -> str | None:
    """The name under which a Fisher has a tensor, which may have several."""
    return name if name in one else next((n for n in moves.names if n in one), None)


def _checked(information: Tensor, name: str, shape: tuple[int, ...]) -> Tensor:
    check_tensor(information, name)
    if tuple(information.shape) != shape:
        raise ArchitectureMismatchError(
            f"{name} has shape {tuple(information.shape)}, but the weights have shape {shape}; "
            "give the Fisher information of the same model"
        )
    if information.is_complex() or not is_finite(information) or bool((information < 0).any()):
        raise InvalidParameterError(
            f"{name} is complex, negative or not finite somewhere, which no Fisher information "
            "is; compute it with fr.fisher"
        )
    return information
