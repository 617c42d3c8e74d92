"""Units in the order of a key."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from networks import NETWORKS
from torch import nn

import fxrebasin as fr
from benchmarks.measuring.random_weights import difference, evaluate, randomise
from fxrebasin.compaction.unit_weights import weights_of_units
from fxrebasin.errors import InvalidArgumentError

torch.set_num_threads(1)

NAMES = [
    "mlp",
    "residual_mlp",
    "TiedLinears",
    "convolution_flattened",
    "grouped_convolution",
    "attention_from_a_fused_projection",
    "rotary_attention",
    "lstm",
]


@pytest.mark.parametrize("key", [fr.UnitWeights.written_norm, fr.UnitWeights.read_norm])
@pytest.mark.parametrize("name", NAMES)
def test_units_come_in_order_and_the_function_stays(name: str, key: fr.Key) -> None:
    network = NETWORKS[name]
    torch.manual_seed(0)
    model = randomise(network.factory())
    inputs = tuple(x.double() if x.is_floating_point() else x for x in network.inputs(4))
    ordered = fr.order(model, inputs, key=key)
    assert difference(evaluate(ordered, inputs), evaluate(model, inputs)) < 1e-10
    state = ordered.state_dict()
    symmetry = ordered.report.symmetry
    for weights in weights_of_units(symmetry, state).values():
        keys = key(weights).reshape(weights.block.count, weights.block.size)
        assert bool((keys.diff(dim=1) <= 1e-12).all()), weights.block.name
    assert ordered.report.objective_after >= ordered.report.objective_before
    again = fr.order(ordered, inputs, key=key, symmetry=symmetry)
    assert again.report.permutation.is_identity


def test_a_key_of_ones_own() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))
    x = torch.randn(4, 3)
    ordered = fr.order(model, (x,), key=lambda weights: weights.other["0.bias[0]"][:, 0])
    bias = model.get_parameter("0.bias").detach()
    assert torch.equal(ordered.state_dict()["0.bias"], bias.sort(descending=True)[0])
    same = fr.order(model, (x,), key=lambda weights: np.ones(weights.block.units))
    assert same.report.permutation.is_identity


@pytest.mark.parametrize(
    "found", [None, "text", [1.0, 2.0], torch.zeros(7), torch.full((6,), torch.nan)]
)
def test_a_key_that_gives_no_number_per_unit_is_refused(found: object) -> None:
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))
    with pytest.raises(InvalidArgumentError, match="key: expected a function that returns 6 num"):
        fr.order(model, (torch.zeros(1, 3),), key=lambda weights: found)


def test_units_of_zeros_come_last() -> None:
    """What is then cut is what ``compact`` cuts."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))
    model.get_parameter("0.weight").data[[1, 4]] = 0.0
    ordered = fr.order(model, (torch.randn(4, 3),))
    assert not ordered.state_dict()["0.weight"][4:].any()
    assert ordered.state_dict()["0.weight"][:4].any(dim=1).all()
