"""A mixture is the sum of what it mixes, each divided by what it is at most."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.measuring.random_weights import randomise
from fxrebasin.errors import ArchitectureMismatchError, InvalidArgumentError
from fxrebasin.objectives import InnerProducts, activations_of, mixed, mixture, term, weights

X = torch.randn(30, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def mlp(seed: int, width: int = 6) -> nn.Module:
    return randomise(nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 2)), seed)


A, B = mlp(1), mlp(2)
SYMMETRY = fr.analyze(A, args=(X,))
STATES = B.state_dict(), A.state_dict()
BY_ACTIVATIONS = partial(activations_of, model=A, args=(X,))


def value(products: InnerProducts, permutation: fr.Permutation) -> float:
    sources = (products.sources(permutation.indices, t) for t in range(len(products.terms)))
    return sum(products.value_at(t, source) for t, source in enumerate(sources))


def doubled_negative(
    symmetry: fr.Symmetry,
    b: Mapping[str, Tensor],
    a: Mapping[str, Tensor],
    /,
    *,
    device: torch.device | str | None = None,
) -> InnerProducts:
    """Of the same size, whatever the factor: how far weights are apart."""
    terms = [term(m, b[m.name], a[m.name], weight=-2.0, device=device) for m in symmetry.parameters]
    return InnerProducts(symmetry, terms)


@pytest.mark.parametrize("shares", [(0.25, 0.75), (3, 0), (1, 1)])
def test_its_value_is_the_sum_of_their_values_in_their_shares(shares: tuple[float, float]) -> None:
    generator = torch.Generator().manual_seed(0)
    both = [objective(SYMMETRY, *STATES) for objective in (weights, BY_ACTIVATIONS)]
    found = mixture(SYMMETRY, *STATES, of=[weights, BY_ACTIVATIONS], shares=shares)
    most = [sum(float(t.a.norm() * t.b.norm()) for t in part.terms) for part in both]
    for _ in range(5):
        p = fr.Permutation.random(SYMMETRY, generator)
        scaled = [value(part, p) / m for part, m in zip(both, most, strict=True)]
        expected = np.dot(scaled, shares) / sum(shares)
        assert value(found, p) == pytest.approx(expected, rel=1e-5)


def test_of_a_permuted_model_it_finds_the_permutation_at_the_value_of_one() -> None:
    hidden = fr.Permutation.random(SYMMETRY, torch.Generator().manual_seed(3))
    moved = hidden.apply(A.state_dict())
    found = mixture(SYMMETRY, moved, A.state_dict(), of=[weights, BY_ACTIVATIONS])
    alignment = fr.solvers.coordinate_descent(found, progress=False)
    assert alignment.permutation == hidden.inverse()
    assert alignment.objective_after == pytest.approx(1, rel=1e-5)


def test_terms_that_count_against_are_scaled_by_their_size() -> None:
    (found,) = (mixture(SYMMETRY, *STATES, of=[doubled_negative]),)
    assert sum(float(t.a.norm() * t.b.norm()) * t.weight for t in found.terms) == pytest.approx(-1)


def test_what_counts_nothing_is_not_asked() -> None:
    def fails(*args: Any, **kwargs: Any) -> InnerProducts:
        raise AssertionError

    alone, of = mixture(SYMMETRY, *STATES, of=[weights]), [weights, fails]
    found = mixture(SYMMETRY, *STATES, of=of, shares=[2, 0])
    assert [t.weight for t in found.terms] == [t.weight for t in alone.terms]


def test_what_compares_only_zeros_says_nothing() -> None:
    zeros = {name: torch.zeros_like(t) for name, t in A.state_dict().items()}
    silent = weights(SYMMETRY, zeros, A.state_dict())
    alone = mixed([weights(SYMMETRY, *STATES)])
    assert len(mixed([silent, weights(SYMMETRY, *STATES)]).terms) == len(alone.terms)


def test_it_merges_many_models() -> None:
    objective = partial(mixture, of=[weights, BY_ACTIVATIONS])
    states = [mlp(seed).state_dict() for seed in range(3)]
    merged = fr.merge_methods.to_reference(SYMMETRY, states, objective=objective, progress=False)
    assert merged.history[-1] >= merged.history[0]


def test_objectives_over_another_group_are_refused() -> None:
    other = mlp(3, 5)
    group = fr.analyze(other, args=(X,))
    products = weights(group, other.state_dict(), other.state_dict())
    with pytest.raises(ArchitectureMismatchError, match="of: expected objectives over the symm"):
        mixture(SYMMETRY, *STATES, of=[lambda *args, **kwargs: products])
    with pytest.raises(ArchitectureMismatchError, match="parts: expected objectives over one"):
        mixed([products, weights(SYMMETRY, *STATES)])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"of": []}, "of: expected a list of objectives"),
        ({"of": [weights, 3]}, r"of\[1\]: expected"),
        ({"of": [weights], "shares": [1, 2]}, "shares: expected a list of 1"),
        ({"of": [lambda *args, **kwargs: 3]}, "objective: expected a function that returns Inner"),
    ],
)
def test_what_makes_no_mixture_is_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=text):
        mixture(SYMMETRY, *STATES, **options)
