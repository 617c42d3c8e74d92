"""What may be compared of two potentials: four things, and any mixture of them.

* ``weights``;
* ``activations``: the correlation of what units return, as ``fr.activation_matching`` has it;
* ``sums``: the covariance of what units take, before the nonlinearity, so that those that vary
  more count more;
* ``slopes``: the covariance of the slopes of the energy by what units take.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.merging.ani import Potential
from benchmarks.merging.lines import State
from benchmarks.merging.molecules import ELEMENTS, Environments
from fxrebasin.objectives import InnerProducts, Term, mixed, term, weights
from fxrebasin.symmetry.parts import AxisGroup, ParameterSymmetry

KINDS = ("weights", "activations", "sums", "slopes")

Units = dict[str, Tensor]
"""Per hidden layer, by name, a row per atom and a column per unit."""


def mixture(
    symmetry: fr.Symmetry,
    b: State,
    a: State,
    /,
    *,
    seen: Environments,
    shares: Mapping[str, float],
    device: torch.device | str | None = None,
) -> InnerProducts:
    """Compare two potentials in several ways at once.

    Args:
        symmetry: that of a ``Potential``.
        b: the state dict that is permuted.
        a: the state dict that it is aligned with.
        seen: the atoms on which activations and slopes are compared.
        shares: how much each of ``KINDS`` counts; those that are missing do not.
        device: where to compute.
    """
    found: dict[str, InnerProducts] = {}
    if shares.get("weights"):
        found["weights"] = weights(symmetry, b, a, device=device)
    if any(shares.get(kind) for kind in KINDS[1:]):
        units_a, units_b = (_units(state, seen) for state in (a, b))
        for kind in KINDS[1:]:
            if shares.get(kind):
                pairs = {name: (units_a[kind][name], units_b[kind][name]) for name in units_a[kind]}
                terms = (_term(symmetry, kind, name, *pair) for name, pair in pairs.items())
                found[kind] = InnerProducts(symmetry, terms)
    return mixed([*found.values()], shares=[shares[kind] for kind in found])


def _units(state: State, seen: Environments) -> dict[str, Units]:
    """What the units of all hidden layers do, centred."""
    potential = Potential()
    potential.load_state_dict(dict(state))
    found: dict[str, Units] = {kind: {} for kind in KINDS[1:]}
    for element, vectors in zip(ELEMENTS, seen.vectors, strict=True):
        taken: Units = {}
        x = vectors
        layers = list(potential.get_submodule(element).named_children())
        for name, layer in layers:
            x = layer(x)
            if isinstance(layer, nn.Linear) and name != layers[-1][0]:
                x.retain_grad()
                taken[f"{element}.{name}"] = x
        x.sum().backward()
        for name, sums in taken.items():
            assert sums.grad is not None
            returned = _centred(F.celu(sums.detach(), alpha=0.1))
            found["activations"][name] = returned / returned.norm(dim=0).clamp(min=1e-12)
            found["sums"][name] = _balanced(_centred(sums.detach()))
            found["slopes"][name] = _balanced(_centred(sums.grad))
    return found


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(0)


def _balanced(x: Tensor) -> Tensor:
    """As large as all others that have as many columns."""
    return x * (x.shape[1] ** 0.5 / x.norm().clamp(min=1e-12))


def _term(symmetry: fr.Symmetry, kind: str, name: str, a: Tensor, b: Tensor) -> Term:
    """Compare the units of one layer, which move as its bias does.

    Inner products of columns are those of the triangular factor of both, which has fewer rows.
    """
    (bias,) = (p for p in symmetry.parameters if p.name == f"{name}.bias")
    groups = tuple(AxisGroup((1,), group.segments) for group in bias.groups)
    a, b = torch.linalg.qr(torch.cat([a, b], 1), mode="r").R.split(a.shape[1], 1)
    return term(ParameterSymmetry((f"{kind} of {name}",), tuple(a.shape), False, groups), a, b)
