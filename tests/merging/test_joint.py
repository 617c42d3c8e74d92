"""The objective of all models at once is the polynomial that it is said to be."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from random_pairs import random_pair
from torch import Tensor

import fxrebasin as fr
from fxrebasin.merging.joint import Joint, Matrices, highest_point, maximise_jointly
from fxrebasin.merging.problem import Problem, pose

torch.set_num_threads(1)

NAMES = ("residual_mlp", "torch_attention", "lstm")


def posed(name: str) -> Problem:
    symmetry, a, b = random_pair(name)
    models = [a, b, {n: t.flip(0) if t.ndim else t for n, t in a.items()}]
    descent = fr.solvers.coordinate_descent
    weights = fr.objectives.weights
    return pose(symmetry, models, [2, 1, 1], weights, descent, 0, None, False)


def drawn(problem: Problem, seed: int) -> list[fr.Permutation]:
    generator = torch.Generator().manual_seed(seed)
    first = problem.unmoved[0]
    return [first, *(fr.Permutation.random(problem.symmetry, generator) for _ in range(2))]


def joint_of(problem: Problem) -> Joint:
    joint = Joint(problem, problem.unmoved, [0, 1, 2])
    assert joint.names
    return joint


@pytest.mark.parametrize("name", NAMES)
def test_at_permutations_it_is_the_sum_over_pairs(name: str) -> None:
    problem = posed(name)
    joint = joint_of(problem)
    blocks = {n: b for n, b in problem.symmetry.blocks.items() if n in joint.names}
    corner = [
        fr.Permutation(problem.symmetry, {**problem.unmoved[0].indices,
                                          **{n: p.indices[n] for n in blocks}})
        for p in drawn(problem, 1)
    ]  # fmt: skip
    found = joint.evaluate(joint.matrices(corner))[0]
    moved = [p.apply(model) for p, model in zip(corner, problem.models, strict=True)]
    terms = [
        p.name
        for p in problem.symmetry.parameters
        if not p.is_buffer
        and any(n in blocks for g in p.groups for s in g.segments for n in s.blocks)
    ]
    expected = sum(
        2 * problem.weights[k] * problem.weights[j] * float((moved[k][n] * moved[j][n]).sum())
        for k, j in itertools.combinations(range(3), 2)
        for n in terms
    )
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_along_a_line_it_is_a_polynomial_of_the_degree(name: str) -> None:
    problem = posed(name)
    joint = joint_of(problem)
    here, towards = joint.start(0.75), joint.matrices(drawn(problem, 2))
    places = np.linspace(0, 1, joint.degree + 1)

    def at(place: float) -> float:
        return joint.evaluate(joint.between(here, towards, place))[0]

    through = np.polynomial.Polynomial.fit(places, [at(p) for p in places], joint.degree)
    for place in (0.11, 0.37, 0.83):
        assert at(place) == pytest.approx(float(through(place)), rel=1e-10)
    share, highest, end = joint.climb(here, towards, at(0.0))
    assert at(share) == pytest.approx(highest, rel=1e-9)
    assert end == pytest.approx(at(1.0), rel=1e-12)
    assert highest >= max(at(p) for p in np.linspace(0, 1, 9)) - 1e-10 * abs(highest)


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_is_the_slope(name: str) -> None:
    """Each pair counts twice in the objective, once in the gradient of either of its models."""
    problem = posed(name)
    joint = joint_of(problem)
    here, towards = joint.start(0.5), joint.matrices(drawn(problem, 3))
    _, gradients = joint.evaluate(here, gradients=True)
    slope = 0.0
    for k in joint.moving:
        gradient, weight = gradients[k], problem.weights[k]
        assert gradient is not None
        way: dict[str, Tensor] = {n: towards[k][n] - here[k][n] for n in joint.names}
        slope += 2 * weight * (1 - weight) * sum(float((gradient[n] * way[n]).sum()) for n in way)
    step = 1e-4
    ends = [joint.evaluate(joint.between(here, towards, s))[0] for s in (-step, step)]
    assert (ends[1] - ends[0]) / (2 * step) == pytest.approx(slope, rel=1e-6)


def test_matrices_stay_doubly_stochastic_and_the_first_model_stays() -> None:
    problem = posed("residual_mlp")
    joint = joint_of(problem)
    here: list[Matrices] = joint.start(0.75)
    for k, matrices in enumerate(here):
        for matrix in matrices.values():
            assert torch.allclose(matrix.sum(0), torch.ones_like(matrix[0]))
            assert torch.allclose(matrix.sum(1), torch.ones_like(matrix[0]))
            assert bool(((matrix == 0) | (matrix == 1)).all()) == (k == 0)
    found = maximise_jointly(problem, problem.unmoved, [0, 1, 2], steps=3, spread=0.75, patience=5)
    assert found[0].is_identity
    assert problem.value(found) > problem.value(problem.unmoved)


@pytest.mark.parametrize(
    ("values", "place"),
    [([0, 1, 2], 1.0), ([2, 1, 0], 0.0), ([0, 1, 0.5], 0.625 - 1 / 24)],
)
def test_the_highest_point_of_a_parabola(values: list[float], place: float) -> None:
    found, height = highest_point(np.linspace(0, 1, 3), np.array(values, dtype=float))
    assert found == pytest.approx(place, abs=1e-9)
    assert height >= max(values) - 1e-12
