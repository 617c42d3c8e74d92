"""What an exchange of two units loses, against the objective itself."""

from __future__ import annotations

import pytest
import torch
from networks import NETWORKS
from random_pairs import random_pair

import fxrebasin as fr
from fxrebasin.matching.inner_products import InnerProducts
from fxrebasin.merging.margins import block_gains, exchange_losses, least_losses, sources_of


def value(objective: InnerProducts, permutation: fr.Permutation) -> float:
    sources = sources_of(objective, permutation.indices)
    return sum(objective.value_at(t, s) for t, s in enumerate(sources))


def exchanged(
    permutation: fr.Permutation, name: str, parent: int, i: int, k: int
) -> fr.Permutation:
    indices = {block: x.copy() for block, x in permutation.indices.items()}
    indices[name][parent, [i, k]] = indices[name][parent, [k, i]]
    return fr.Permutation(permutation.symmetry, indices)


def check_network(name: str) -> set[str]:
    """Compare all losses of a network with what its objective loses; give the blocks without."""
    symmetry, a, b = random_pair(name)
    objective = fr.objectives.weights(symmetry, b, a)
    permutation = fr.Permutation.random(symmetry, torch.Generator().manual_seed(3))
    here = value(objective, permutation)
    found = exchange_losses(objective, permutation)
    for block, losses in found.items():
        count, size = losses.shape[:2]
        assert (count, size) == (symmetry.blocks[block].count, symmetry.blocks[block].size)
        assert torch.equal(losses, losses.transpose(1, 2))
        assert not losses.diagonal(dim1=1, dim2=2).any()
        for parent, i, k in {(0, 0, size - 1), (count - 1, 0, min(1, size - 1))}:
            there = value(objective, exchanged(permutation, block, parent, i, k))
            expected = pytest.approx(here - there, rel=1e-6, abs=1e-6 * (1 + abs(here)))
            assert losses[parent, i, k].item() == expected, block
    return symmetry.blocks.keys() - found.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_an_exchange_loses_what_the_objective_loses(name: str) -> None:
    symmetry, _, _ = random_pair(name)
    parents = {block.parent for block in symmetry}
    alone = {b.name for b in symmetry if b.parent is None and b.name not in parents}
    assert not check_network(name) & alone


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("grouped_convolutions_in_a_row", 5),
        ("attention_from_a_fused_projection", 1),
        ("cross_attention_of_other_widths", 1),
    ],
)
def test_blocks_that_do_not_move_alone_are_left_out(name: str, without: int) -> None:
    assert len(check_network(name)) == without


@pytest.mark.parametrize(
    "name", ["attention_from_a_fused_projection", "maxout", "MixtureOfExperts"]
)
def test_gains_are_those_of_the_solver(name: str) -> None:
    symmetry, a, b = random_pair(name)
    objective = fr.objectives.weights(symmetry, b, a)
    found = fr.solvers.coordinate_descent(objective, progress=False)
    gains = block_gains(objective, found.permutation)
    assert gains == pytest.approx(dict(found.gains), rel=1e-5, abs=1e-5)


def test_at_an_optimum_no_exchange_gains() -> None:
    for name in ("attention_from_a_fused_projection", "cross_attention_of_other_widths"):
        symmetry, a, b = random_pair(name)
        objective = fr.objectives.weights(symmetry, b, a)
        found = fr.solvers.coordinate_descent(objective, progress=False)
        for losses in exchange_losses(objective, found.permutation).values():
            assert (least_losses(losses) > -1e-4 * abs(found.objective_after)).all()


def test_units_that_are_alike_can_be_exchanged_for_nothing() -> None:
    torch.manual_seed(0)
    before, after = torch.nn.Linear(3, 5), torch.nn.Linear(5, 2)
    model = torch.nn.Sequential(before, torch.nn.ReLU(), after)
    with torch.no_grad():
        before.weight[1], before.bias[1] = before.weight[4], before.bias[4]
        after.weight[:, 1] = after.weight[:, 4]
    symmetry = fr.analyze(model, args=(torch.randn(2, 3),))
    state = dict(model.state_dict())
    objective = fr.objectives.weights(symmetry, state, state)
    (losses,) = exchange_losses(objective, fr.Permutation.identity(symmetry)).values()
    least = least_losses(losses)[0]
    assert least[[1, 4]].abs().max() < 1e-6
    assert least[[0, 2, 3]].min() > 1e-3
