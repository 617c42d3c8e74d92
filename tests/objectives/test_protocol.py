"""A new objective is one function: written here, and taken by everything that aligns."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.measuring.random_weights import randomise
from fxrebasin.errors import InvalidArgumentError
from fxrebasin.objectives import InnerProducts, Objective, term
from fxrebasin.passes import Propagate, Refine, Solve, Trace
from fxrebasin.passes.state import state_of

State = Mapping[str, Tensor]
X = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def fisher_weights(
    symmetry: fr.Symmetry,
    b: State,
    a: State,
    /,
    *,
    fisher: State,
    device: torch.device | str | None = None,
) -> InnerProducts:
    """The squared distance of the weights, each entry weighted by A's diagonal Fisher.

    -F (a - b)^2 = 2 F a b - F b^2 - F a^2, of which the last does not depend on the permutation.
    """
    terms = []
    for moves in symmetry.parameters:
        if moves.groups and not moves.is_buffer:
            f, of_a, of_b = (state[moves.name] for state in (fisher, a, b))
            terms.append(term(moves, 2 * f * of_a, of_b, device=device))
            terms.append(term(moves, -f, of_b.square(), device=device))
    return InnerProducts(symmetry, terms, name="Fisher-weighted matching")


def cosine_weights(
    symmetry: fr.Symmetry, b: State, a: State, /, *, device: torch.device | str | None = None
) -> InnerProducts:
    """Every tensor counts alike, however large its entries are."""
    terms = (
        term(m, a[m.name] / a[m.name].norm(), b[m.name] / b[m.name].norm(), device=device)
        for m in symmetry.parameters
        if m.groups and not m.is_buffer
    )
    return InnerProducts(symmetry, terms, name="cosine matching")


def mlp(seed: int, *widths: int) -> nn.Module:
    pairs = itertools.pairwise((3, *widths, 2))
    layers = [x for n, m in pairs for x in (nn.Linear(n, m), nn.Tanh())]
    return randomise(nn.Sequential(*layers[:-1]), seed)


def fisher_of(model: nn.Module) -> dict[str, Tensor]:
    """Squared gradients; some entries matter far more than others."""
    model(X).square().sum().backward()
    found = {name: p.grad.square() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


A, B = mlp(1, 5), mlp(2, 5)
OBJECTIVES: dict[str, Objective] = {
    "fisher": partial(fisher_weights, fisher=fisher_of(A)),
    "cosine": cosine_weights,
}


def distance(permutation: fr.Transform) -> float:
    moved, a = permutation.apply(B.state_dict()), A.state_dict()
    return sum(float((f * (a[n] - moved[n]).square()).sum()) for n, f in fisher_of(A).items())


def test_the_fisher_weighted_distance_is_the_least_of_all() -> None:
    symmetry = fr.analyze(B, args=(X,))
    found = fr.match(
        symmetry, B.state_dict(), to=A.state_dict(), objective=OBJECTIVES["fisher"], progress=False
    )
    every = (
        fr.Permutation(symmetry, {"0.weight[0]": np.array([order])})
        for order in itertools.permutations(range(5))
    )
    assert distance(found) == pytest.approx(min(map(distance, every)))
    plain = fr.match(symmetry, B.state_dict(), to=A.state_dict(), progress=False)
    assert distance(found) < distance(plain)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("solver", [fr.solvers.coordinate_descent, fr.solvers.frank_wolfe])
def test_a_planted_permutation_is_found(name: str, solver: fr.solvers.Solver) -> None:
    symmetry = fr.analyze(A, args=(X,))
    planted = fr.Permutation(symmetry, {"0.weight[0]": np.array([[3, 0, 4, 1, 2]])})
    found = fr.match(
        symmetry,
        planted.inverse().apply(A.state_dict()),
        to=A.state_dict(),
        objective=OBJECTIVES[name],
        solver=solver,
        progress=False,
    )
    assert found == planted


@pytest.mark.parametrize("name", OBJECTIVES)
def test_everything_that_aligns_takes_it(name: str) -> None:
    objective = OBJECTIVES[name]
    symmetry = fr.analyze(B, args=(X,))
    expected = fr.match(
        symmetry, B.state_dict(), to=A.state_dict(), objective=objective, progress=False
    )
    aligned = fr.rebasin(B, to=A, args=(X,), objective=objective, progress=False)
    assert aligned.report.permutation == expected
    assert torch.allclose(aligned(X), B(X))
    steps: list[Any] = [Trace(), Propagate((X,)), Refine()]
    module: Any = B
    for step in (*steps, Solve(to=A, objective=objective, progress=False)):
        module = step(module).graph_module
    alignment = state_of(module, "alignment").alignment
    assert alignment is not None
    assert alignment.permutation == expected


def test_a_term_must_have_the_shape_that_the_symmetry_moves() -> None:
    symmetry = fr.analyze(B, args=(X,))
    (moves,) = (p for p in symmetry.parameters if p.name == "0.weight")
    with pytest.raises(InvalidArgumentError) as caught:
        term(moves, torch.zeros(5, 3), torch.zeros(3, 5))
    assert str(caught.value) == (
        "the term of '0.weight': expected tensors of shape (5, 3), which the symmetry moves, "
        "found shape (3, 5) for B"
    )
