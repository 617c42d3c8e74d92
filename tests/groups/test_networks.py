"""The exact symmetry group of small networks, each worked out by hand (see ``networks``)."""

from __future__ import annotations

import copy
import doctest
from functools import cache

import networks
import pytest
import torch
from networks import NETWORKS, Network
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import fxrebasin as fr
from benchmarks.measuring.random_weights import difference, evaluate, randomise
from fxrebasin import Symmetry

torch.set_num_threads(1)

EVERY = [pytest.param(n, id=n.name) for n in NETWORKS.values()]
COMPLETE = [
    pytest.param(
        n,
        id=n.name,
        marks=[pytest.mark.xfail(strict=True, reason=n.incomplete)] if n.incomplete else [],
    )
    for n in NETWORKS.values()
]


@cache
def analysed(network: Network, batch: int = 2) -> tuple[nn.Module, Symmetry]:
    """A model and its group; that a test refuted a part of it would be an error here."""
    torch.manual_seed(0)
    model = network.factory()
    return model, fr.analyze(model, args=network.inputs(batch))


def blocks_of(symmetry: Symmetry) -> list[tuple[int, int, int]]:
    """Size, number of parents, and size of the parent block, of every block."""
    sizes = {block.name: block.size for block in symmetry}
    return sorted((b.size, b.count, sizes[b.parent] if b.parent else 0) for b in symmetry)


@pytest.mark.parametrize("network", EVERY)
def test_every_op_is_understood(network: Network) -> None:
    _, symmetry = analysed(network)
    assert sorted(symmetry.unknown_ops) == sorted(network.unknown)


@pytest.mark.parametrize("network", COMPLETE)
def test_the_group_is_the_one_worked_out_by_hand(network: Network) -> None:
    _, symmetry = analysed(network)
    assert blocks_of(symmetry) == sorted(network.blocks)
    assert symmetry.log_order == pytest.approx(network.log_order, rel=1e-6, abs=1e-9)


BY_PARTS = [
    pytest.param(
        n,
        id=n.name,
        marks=[pytest.mark.xfail(strict=True, reason="heads meet the key of zeros one by one")]
        if n.name == "torch_attention_with_learned_key"
        else [],
    )
    for n in NETWORKS.values()
    if "attention" in n.name
]


def test_the_notation_of_groups_is_as_described() -> None:
    result = doctest.testmod(networks)
    assert result.attempted
    assert not result.failed


@pytest.mark.parametrize("network", BY_PARTS)
def test_the_group_does_not_depend_on_the_kernel_of_attention(network: Network) -> None:
    model, symmetry = analysed(network)
    with sdpa_kernel(SDPBackend.MATH):
        by_parts = fr.analyze(model, args=network.inputs(2))
    assert blocks_of(by_parts) == blocks_of(symmetry)


@pytest.mark.parametrize("network", EVERY)
def test_the_group_does_not_depend_on_the_batch_size(network: Network) -> None:
    _, symmetry = analysed(network)
    _, alone = analysed(network, batch=1)
    assert blocks_of(alone) == blocks_of(symmetry)


@pytest.mark.parametrize("network", EVERY)
def test_random_permutations_leave_the_function_unchanged(network: Network) -> None:
    model, symmetry = analysed(network)
    model = randomise(copy.deepcopy(model))
    inputs = network.inputs(8)
    expected = evaluate(model, inputs)
    for seed in range(3):
        permutation = fr.Permutation.random(symmetry, torch.Generator().manual_seed(seed))
        assert difference(evaluate(permutation.apply_to(model), inputs), expected) < 1e-10


@pytest.mark.parametrize(
    "network", [pytest.param(n, id=n.name) for n in NETWORKS.values() if n.blocks]
)
def test_no_parameter_moves_without_need(network: Network) -> None:
    """Every tensor that a permutation moves has to move: the rest alone is another function."""
    model, symmetry = analysed(network)
    if not symmetry.blocks:
        pytest.skip("nothing moves")
    model = randomise(copy.deepcopy(model))
    inputs = network.inputs(8)
    expected = evaluate(model, inputs)
    seeds = iter(range(100))
    permutation = next(
        p
        for p in (fr.Permutation.random(symmetry, torch.Generator().manual_seed(s)) for s in seeds)
        if all((p.flat(b.name) != range(b.units)).any() for b in symmetry)
    )
    moved = permutation.apply_to(model)
    tensors = dict(moved.named_parameters()) | dict(moved.named_buffers())
    originals = dict(model.named_parameters()) | dict(model.named_buffers())
    changed = [n for n in tensors if not torch.equal(tensors[n], originals[n])]
    assert changed
    for name in changed:
        if name in network.inert:
            continue
        kept = tensors[name].detach().clone()
        with torch.no_grad():
            tensors[name].copy_(originals[name])
            assert difference(evaluate(moved, inputs), expected) > 1e-8, name
            tensors[name].copy_(kept)
