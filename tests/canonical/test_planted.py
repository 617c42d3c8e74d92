"""An element of the whole group, hidden in a network, is found again between canonical forms."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from kinds_by_hand import CASES
from torch import Tensor

import fxrebasin as fr
from fxrebasin.canonical.canonicalise import absorb
from fxrebasin.models.precision import to_double
from fxrebasin.verification.random_weights import disturb

NAMES = [
    "a bottleneck",
    "an encoder layer, norms first",
    "GPT",
    "grouped queries",
    "Llama",
    "relu",
    "tied GPT",
    "ViT",
]


@pytest.mark.parametrize("name", NAMES)
def test_planted_elements_are_found_again(name: str) -> None:
    torch.manual_seed(0)
    case = CASES[name]
    model = case.make()
    symmetry = fr.analyze(model, case.inputs())
    model = to_double(model)
    disturb(model, 0, [p.name for p in symmetry.parameters if p.groups])
    hidden = fr.Transform.random(symmetry, torch.Generator().manual_seed(3), scales=True)
    a = absorb(symmetry, model.state_dict())
    b = hidden.apply(a)
    assert distance(a, b) > 0.5
    a, b = (fr.canonicalise(symmetry, state, scales=True) for state in (a, b))
    found = fr.weight_matching(symmetry, b, to=a, group="linear", progress=False)
    assert distance(a, found.permutation.apply(b)) < 1e-9


def distance(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """Relative, over all entries."""
    apart = sum(float((a[k] - b[k]).square().sum()) for k in a)
    return (apart / sum(float(a[k].square().sum()) for k in a)) ** 0.5
