"""Cost matrices that are brought up to date are those that would be computed afresh."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from random_pairs import random_pair
from torch import Tensor

from fxrebasin import Permutation, Symmetry
from fxrebasin.matching.cost_matrices import MASKED, CostMatrix
from fxrebasin.matching.inner_products import InnerProducts
from fxrebasin.matching.trees import Tree, trees_of
from fxrebasin.objectives import weights

torch.set_num_threads(1)

NAMES = [
    "mlp",
    "TiedLinears",
    "attention_from_a_fused_projection",
    "group_norm",
    "grouped_convolution",
    "lstm",
    "rotary_attention",
]


@cache
def objective_of(name: str) -> InnerProducts:
    symmetry, a, b = random_pair(name)
    return weights(symmetry, b, a)


def sample(symmetry: Symmetry, seed: int) -> Permutation:
    return Permutation.random(symmetry, torch.Generator().manual_seed(seed))


def update(cost: CostMatrix, permutation: Permutation, terms: set[int]) -> bool:
    objective = cost.objective
    sources = [objective.sources(permutation.indices, t) for t in range(len(objective.terms))]
    return cost.update(permutation.indices, sources, terms)


def fresh(tree: Tree, name: str, permutation: Permutation, terms: set[int]) -> Tensor:
    old = tree.costs[name]
    cost = CostMatrix(old.objective, name, old.parts)
    update(cost, permutation, terms)
    return cost.matrix


@pytest.mark.parametrize("name", NAMES)
def test_an_update_is_as_good_as_a_new_computation(name: str) -> None:
    objective = objective_of(name)
    generator = np.random.default_rng(0)
    for tree in trees_of(objective):
        for block, cost in tree.costs.items():
            for seed in range(6):
                permutation = sample(objective.symmetry, seed)
                terms = {t for t in tree.terms if generator.uniform() < 0.7}
                update(cost, permutation, terms)
                expected = fresh(tree, block, permutation, terms)
                torch.testing.assert_close(cost.matrix, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_what_has_not_moved_is_not_computed_again(name: str) -> None:
    objective = objective_of(name)
    permutation = sample(objective.symmetry, 1)
    for tree in trees_of(objective):
        for cost in tree.costs.values():
            assert update(cost, permutation, set(tree.terms)) == bool(cost.parts)
            before = cost.matrix.clone()
            assert not update(cost, permutation, set(tree.terms))
            assert torch.equal(cost.matrix, before)


def test_forgotten_matrices_are_computed_afresh() -> None:
    objective = objective_of("mlp")
    permutation = sample(objective.symmetry, 1)
    (cost,) = trees_of(objective)[0].costs.values()
    update(cost, permutation, set(range(len(objective.terms))))
    before = cost.matrix
    cost.forget()
    update(cost, permutation, set(range(len(objective.terms))))
    torch.testing.assert_close(cost.matrix, before, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("first", ["whole", "hidden"])
def test_masked_positions_are_left_out(first: str) -> None:
    """As if B had zeros there, whether the whole was known before or not."""
    objective = objective_of("mlp")
    symmetry = objective.symmetry
    permutation = sample(symmetry, 2)
    terms = set(range(len(objective.terms)))
    sources = [objective.sources(permutation.indices, t) for t in sorted(terms)]
    (tree, other, *_) = trees_of(objective)
    (shared,) = set(tree.terms) & set(other.terms)
    cost = tree.costs[tree.root]
    occurrence = next(o for o, _ in cost.parts if o.term == shared)
    along = 1 - occurrence.group
    hidden = list(sources)
    source = sources[shared][along].copy()
    gone = source[[0, 2]].copy()
    source[[0, 2]] = MASKED
    hidden[shared] = tuple(source if g == along else s for g, s in enumerate(sources[shared]))
    cost.forget()
    if first == "whole":
        cost.update(permutation.indices, sources, terms)
    cost.update(permutation.indices, hidden, terms)
    kept = objective.terms[shared].b.clone()
    objective.terms[shared].b.index_fill_(along, torch.from_numpy(gone), 0.0)
    try:
        expected = fresh(tree, tree.root, permutation, terms)
    finally:
        objective.terms[shared].b.copy_(kept)
    torch.testing.assert_close(cost.matrix, expected, rtol=1e-9, atol=1e-9)
