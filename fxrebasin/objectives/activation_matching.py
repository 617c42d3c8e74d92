"""Activation matching: the correlations of A's units with B's permuted ones on some inputs.

What every layer with weights takes and returns is recorded in both models. How these tensors move
under the symmetry group is found as it is for free outputs of a model, so that activations take
the place of weights in the same kind of objective: heads and the features inside them, groups and
shared blocks are matched as there.

Source: Y. Li, J. Yosinski, J. Clune, H. Lipson and J. Hopcroft, "Convergent Learning" (2016), for
correlations; S. Ainsworth, J. Hayase and S. Srinivasa, "Git Re-Basin" (2023), section 3.1.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..arguments import check_choices, check_device
from ..errors import ArchitectureMismatchError, InvalidArgumentError, UnmatchedBlocksWarning
from ..matching.inner_products import InnerProducts, term
from ..matching.transforms.groups import check_group
from ..models.surroundings import neutral
from ..models.validation import check_inputs, check_model, stored_tensors
from ..propagation.constraints import Constraint, check_constraints
from ..rules.call import Rule
from ..rules.registry import rule_book
from ..symmetry.group import Symmetry, check_symmetry
from ..symmetry.parts import ParameterSymmetry
from ..symmetry.transform import Subgroup
from ..tracing.front_ends import FRONT_ENDS, FrontEnd
from .activation_symmetry import ActivationSymmetry, Watching, find_activation_symmetry
from .recording import Activations, check_comparable, watch

GRAPHS: tuple[FrontEnd, ...] = ("export", "symbolic_trace")
QUIET = 1e-6
"""Units whose deviation is a smaller share of that of the whole tensor do not react."""


@neutral()
def activations(
    symmetry: Symmetry,
    model_b: nn.Module,
    model_a: nn.Module,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    rules: Mapping[Any, str | Rule] | None = None,
    constraints: Sequence[Constraint] = (),
    front_ends: Sequence[FrontEnd] = FRONT_ENDS,
    device: torch.device | str | None = None,
    group: Subgroup = "signed",
) -> InnerProducts:
    """Compare what two models compute from the same inputs.

    The terms are what all layers with weights are given and return; the inner product of two
    units is the correlation, over examples and positions, of the unit of A with that of B. Where
    units are rotated, it is their inner product, as a share of that of all units of the tensor: no
    unit is a thing of its own then.

    >>> import torch, fxrebasin as fr
    >>> a, b = (torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)) for _ in "ab")
    >>> x = torch.randn(64, 4)
    >>> objective = fr.objectives.activations(fr.analyze(b, args=(x,)), b, a, (x,))
    >>> [term.moves.name for term in objective.terms]
    ['linear']

    Args:
        symmetry: the group to align over, as found by :func:`fxrebasin.analyze` for B.
        model_b, model_a, args, kwargs, rules, constraints, front_ends, device: see
            :func:`fxrebasin.activation_matching`.
        group: what is searched, as in :func:`fxrebasin.match`; B runs once more where that is more
            than permutations.

    Raises:
        ArchitectureMismatchError: A and B take different paths, or the symmetry is that of another
            model.
        InvalidArgumentError: no layer with weights is given or returns a unit that can move.
        TraceError, InvalidInputError: see :func:`fxrebasin.analyze`.

    Warns:
        UnmatchedBlocksWarning: blocks of the symmetry are not found again in the activations, or
            all activations are the same for all inputs, as for a single example.
    """
    check_symmetry(symmetry)
    check_model(model_b, "model_b")
    check_model(model_a, "model_a")
    check_inputs(args, kwargs)
    check_constraints(constraints)
    check_choices(front_ends, FRONT_ENDS, "front_ends")
    check_device(device)
    check_group(group)
    check_belongs(symmetry, model_b)
    watching = Watching(
        symmetry, args or (), dict(kwargs or {}), rule_book(rules), constraints, group
    )
    with_graphs = [f for f in GRAPHS if f in front_ends]
    graph, seen_b = watch(with_graphs, model_b, watching.args, watching.kwargs, watching.rules)
    _, seen_a = watch(with_graphs, model_a, watching.args, watching.kwargs, watching.rules)
    check_comparable(seen_b, seen_a)
    found = find_activation_symmetry(watching, graph, model_b, stored_tensors(model_b), seen_b)
    return compared(found, seen_b, seen_a, device)


def compared(
    found: ActivationSymmetry,
    seen_b: Activations,
    seen_a: Activations,
    device: torch.device | str | None,
) -> InnerProducts:
    """The objective that compares two models' activations, which move as was found.

    Raises:
        InvalidArgumentError: none of them has a unit that can move.
    """
    symmetry = found.symmetry
    if found.lost:
        warnings.warn(
            f"{len(found.lost)} of {len(symmetry.blocks)} blocks, {found.lost[0]!r} among them, "
            "stay where they are: with these inputs, rules and constraints the activations have no "
            "such block; give those that the symmetry was found with",
            UnmatchedBlocksWarning,
            stacklevel=4,
        )
    terms = []
    for moves in found.activations:
        mixed = moves.name in found.mixed
        sides = (_standardised(seen[moves.name], moves, mixed=mixed) for seen in (seen_a, seen_b))
        terms.append(term(moves, *sides, device=device))
    if not terms:
        raise InvalidArgumentError(
            "symmetry: no layer with weights is given or returns any of its units, so that there "
            "are no activations to compare; use fxrebasin.weight_matching"
        )
    if not any(bool(t.a.any()) and bool(t.b.any()) for t in terms):
        warnings.warn(
            "every unit has the same activation for all of these inputs, so that nothing can be "
            "matched and all blocks stay where they are; give a batch of several examples that "
            "differ",
            UnmatchedBlocksWarning,
            stacklevel=4,
        )
    return InnerProducts(
        symmetry,
        terms,
        name="activation matching",
        group=found.group,
        find_factors=lambda: found.factors,
        widest=found.group,
    )


def check_belongs(symmetry: Symmetry, model: nn.Module) -> None:
    """Refuse the symmetry of another model: its blocks are not those of this one.

    Raises:
        ArchitectureMismatchError: naming a tensor.
    """
    stored = {name: tuple(t.shape) for name, t in stored_tensors(model).items()}
    known = {name: p.shape for p in symmetry.parameters for name in p.names}
    for name in [*known, *(n for n in stored if n not in known)]:
        if known.get(name) != stored.get(name):
            raise ArchitectureMismatchError(
                f"symmetry: it has {name!r} of shape {known.get(name)}, and model B has it of "
                f"shape {stored.get(name)}; give the symmetry that was found for this model"
            )


def _standardised(value: torch.Tensor, symmetry: ParameterSymmetry, *, mixed: bool) -> torch.Tensor:
    """Every unit with mean 0 and, over all examples and positions, norm 1; 0 if it is quiet.

    Units that are mixed all have the same scale, by which their squared norms are 1 in the mean;
    their means move as they do, and stay.
    """
    units = {axis for group in symmetry.groups for axis in group.axes}
    samples = [d for d in range(value.ndim) if d not in units]
    value = value.detach().float() if value.dtype.itemsize < 4 else value.detach()
    if mixed:
        count = math.prod(value.shape[d] for d in range(value.ndim) if d in units)
        norm = value.norm().clamp(min=torch.finfo(value.dtype).tiny)
        return value / norm * count**0.5
    if not samples:
        return value / value.norm().clamp(min=torch.finfo(value.dtype).tiny)
    centred = value - value.mean(samples, keepdim=True)
    deviation = centred.square().mean(samples, keepdim=True).sqrt()
    is_quiet = deviation <= QUIET * deviation.square().mean().sqrt()
    count = math.prod(value.shape[d] for d in samples)
    return centred.div_((deviation * count**0.5).masked_fill_(is_quiet, math.inf))
