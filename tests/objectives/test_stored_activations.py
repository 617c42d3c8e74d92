"""Activations of state dicts are those of models that hold them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import fxrebasin as fr
from benchmarks.measuring.random_weights import randomise
from fxrebasin.errors import ArchitectureMismatchError

X = torch.randn(12, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def convolutional(seed: int) -> nn.Module:
    layers = (nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.ReLU())
    return randomise(nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 2)), seed).eval()


A, B = convolutional(1), convolutional(2)
SYMMETRY = fr.analyze(A, args=(X,))


def test_they_are_compared_as_those_of_models_are() -> None:
    before = copy.deepcopy(A.state_dict())
    expected = fr.objectives.activations(SYMMETRY, B, A, (X,))
    found = fr.objectives.activations_of(
        SYMMETRY, B.state_dict(), A.state_dict(), model=A, args=(X,)
    )
    assert len(found.terms) == len(expected.terms)
    for ours, theirs in zip(found.terms, expected.terms, strict=True):
        assert torch.equal(ours.a, theirs.a) and torch.equal(ours.b, theirs.b)
    assert all(torch.equal(before[name], t) for name, t in A.state_dict().items())


def test_a_state_dict_of_another_model_is_refused() -> None:
    other = nn.Linear(3, 2).state_dict()
    with pytest.raises(ArchitectureMismatchError, match=r"the model has '0\.weight' of shape"):
        fr.objectives.activations_of(SYMMETRY, other, A.state_dict(), model=A, args=(X,))
