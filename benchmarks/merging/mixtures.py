"""Several things that are compared at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import fxrebasin as fr
from fxrebasin.objectives import InnerProducts, Term


def mixed(
    symmetry: fr.Symmetry, kinds: Mapping[str, Sequence[Term]], shares: Mapping[str, float]
) -> InnerProducts:
    """The sum of several objectives, each divided by what it is at most.

    That is the sum of the products of norms, by the inequality of Cauchy and Schwarz.

    Args:
        symmetry: the group.
        kinds: the terms of every objective.
        shares: how much each of them counts.
    """
    scaled = []
    for kind, terms in kinds.items():
        most = sum(float(t.a.norm() * t.b.norm()) * t.weight for t in terms)
        scaled += [replace(t, weight=t.weight * shares[kind] / most) for t in terms]
    return InnerProducts(symmetry, scaled, name="mixture")
