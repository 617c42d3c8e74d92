"""Several things that are compared at once: the sum of objectives, each in a share of its own.

An inner product of weights and one of activations are numbers of different size. So every objective
is divided by what it is at most, by the inequality of Cauchy and Schwarz: the sum of the products
of its tensors' norms. That is what it is of two models of which one is the other, permuted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import torch

from ..arguments import check_device, check_function, check_items, check_shares, refuse
from ..errors import ArchitectureMismatchError
from ..matching.alignment import check_products
from ..matching.inner_products import InnerProducts, Term
from ..matching.transforms.groups import SUBGROUPS
from ..symmetry.group import Symmetry, check_symmetry
from ..symmetry.kinds import Factor, Place
from .protocol import Objective


def mixture(
    symmetry: Symmetry,
    b: Mapping[str, torch.Tensor],
    a: Mapping[str, torch.Tensor],
    /,
    *,
    of: Sequence[Objective],
    shares: Sequence[float] | None = None,
    device: torch.device | str | None = None,
) -> InnerProducts:
    """Compare two state dicts in several ways at once, such as by weights and by activations.

    >>> import torch, fxrebasin as fr
    >>> from functools import partial
    >>> a, b = (torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)) for _ in "ab")
    >>> x = torch.randn(64, 4)
    >>> by_both = partial(
    ...     fr.objectives.mixture,
    ...     of=[fr.objectives.weights, partial(fr.objectives.activations_of, model=b, args=(x,))],
    ...     shares=[1, 3],
    ... )
    >>> symmetry = fr.analyze(b, args=(x,))
    >>> states = {"state_dict": b.state_dict(), "to": a.state_dict()}
    >>> found = fr.match(symmetry, **states, objective=by_both, progress=False)

    Args:
        symmetry: the group to align over.
        b: the state dict that is permuted; not changed.
        a: the state dict it is aligned with; not changed.
        of: the objectives, their options given by ``functools.partial``.
        shares: how much each of them counts, at least 0, divided by their sum; None is alike. What
            counts nothing is not asked.
        device: where to compute; by default where ``a`` is.

    Raises:
        InvalidArgumentError: there is no objective, one returns something else, or the shares are
            none of so many.
        ArchitectureMismatchError: an objective is over another group.
    """
    check_symmetry(symmetry)
    check_device(device)
    if isinstance(of, (str, bytes, Mapping)) or not isinstance(of, Sequence) or not of:
        refuse("of", "a list of objectives", of, "give [fr.objectives.weights, ...]")
    for k, objective in enumerate(of):
        check_function(objective, f"of[{k}]", "fr.objectives.weights")
    known = check_shares(shares, len(of), "shares")
    asked = [(objective, share) for objective, share in zip(of, known, strict=True) if share]
    parts = [objective(symmetry, b, a, device=device) for objective, _ in asked]
    for part in parts:
        check_products(part)
        if part.symmetry != symmetry:
            raise ArchitectureMismatchError(
                "of: expected objectives over the symmetry that they are given, found one over "
                "another; give functions of it"
            )
    return mixed(parts, shares=[share for _, share in asked])


def mixed(
    parts: Sequence[InnerProducts], *, shares: Sequence[float] | None = None
) -> InnerProducts:
    """The sum of objectives over one group, each divided by what it is at most.

    >>> import torch, fxrebasin as fr
    >>> a = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
    >>> symmetry = fr.analyze(a, args=(torch.zeros(1, 4),))
    >>> alike = fr.objectives.weights(symmetry, a.state_dict(), a.state_dict())
    >>> found = fr.solvers.coordinate_descent(fr.objectives.mixed([alike, alike]), progress=False)
    >>> round(found.objective_after, 6)
    1.0

    Args:
        parts: what is summed.
        shares: how much each counts, as in :func:`mixture`.

    Returns:
        Their sum, at most 1.

    Raises:
        InvalidArgumentError: there are none, or the shares are none of so many.
        ArchitectureMismatchError: they are over different groups.
    """
    if not isinstance(parts, Sequence) or not parts:
        refuse("parts", "a list of InnerProducts", parts, "give what fr.objectives.weights returns")
    check_items(parts, InnerProducts, "parts", "InnerProducts", "give what objectives return")
    symmetry = parts[0].symmetry
    if any(part.symmetry != symmetry for part in parts):
        raise ArchitectureMismatchError(
            "parts: expected objectives over one symmetry, found several; give each the same"
        )
    terms: list[Term] = []
    for part, share in zip(parts, check_shares(shares, len(parts), "shares"), strict=True):
        most = sum(float(t.a.norm() * t.b.norm()) * abs(t.weight) for t in part.terms)
        if most:
            terms += [replace(t, weight=t.weight * share / most) for t in part.terms]
    made = InnerProducts(
        symmetry,
        terms,
        name="mixture",
        group="linear",
        find_factors=partial(_factors_of_all, parts),
        widest=min((part.widest for part in parts), key=SUBGROUPS.index),
    )
    return made.over(min((part.group for part in parts), key=SUBGROUPS.index))


def _factors_of_all(parts: Sequence[InnerProducts]) -> dict[Place, Factor]:
    """How elements act on the terms of all parts.

    Raises:
        InvalidArgumentError: terms of one name move differently in two of them.
    """
    found: dict[Place, Factor] = {}
    for part in parts:
        for place, factor in part.factors.items():
            if found.setdefault(place, factor) != factor:
                refuse("parts", f"objectives in which {place[0]!r} moves alike", part.name)
    return found
