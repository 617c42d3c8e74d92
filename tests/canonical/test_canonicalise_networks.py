"""Canonical weights of many networks compute what those of the network do."""

from __future__ import annotations

import pytest
import torch
from networks.registry import NETWORKS, Network

import fxrebasin as fr
from fxrebasin.models.copying import deep_copy
from fxrebasin.models.precision import in_double, largest_error, to_double
from fxrebasin.models.running import run
from fxrebasin.verification.random_weights import disturb


@pytest.mark.slow
@pytest.mark.parametrize("net", NETWORKS.values(), ids=list(NETWORKS))
def test_what_networks_compute_stays(net: Network) -> None:
    torch.manual_seed(0)
    model, inputs = net.factory(), net.inputs(2)
    symmetry = fr.analyze(model, inputs, check=False)
    model, inputs = to_double(model).eval(), in_double(inputs)
    disturb(model, 0, [p.name for p in symmetry.parameters if p.groups])
    made = fr.canonicalise(symmetry, model, scales=True)
    assert largest_error(run(deep_copy(model), inputs, {}), run(made, inputs, {})) < 1e-12
