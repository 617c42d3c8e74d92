"""Activations of state dicts are those of models that hold them."""

from __future__ import annotations

import copy
import gc
import weakref
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.measuring.random_weights import randomise
from fxrebasin.errors import ArchitectureMismatchError
from fxrebasin.objectives import InnerProducts, stored_activations
from fxrebasin.objectives.recording import watch

X = torch.randn(12, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def convolutional(seed: int) -> nn.Module:
    layers = (nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.ReLU())
    return randomise(nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 2)), seed).eval()


A, B = convolutional(1), convolutional(2)
SYMMETRY = fr.analyze(A, args=(X,))


def check_same(found: InnerProducts, expected: InnerProducts) -> None:
    assert len(found.terms) == len(expected.terms)
    for ours, theirs in zip(found.terms, expected.terms, strict=True):
        assert torch.equal(ours.a, theirs.a) and torch.equal(ours.b, theirs.b)


def test_they_are_compared_as_those_of_models_are() -> None:
    before = copy.deepcopy(A.state_dict())
    for b in (B, convolutional(3)):  # at the second call nothing is traced
        expected = fr.objectives.activations(SYMMETRY, b, A, (X,))
        found = fr.objectives.activations_of(
            SYMMETRY, b.state_dict(), A.state_dict(), model=A, args=(X,)
        )
        check_same(found, expected)
    assert all(torch.equal(before[name], t) for name, t in A.state_dict().items())


def test_a_model_is_traced_once_for_inputs_of_the_same_shapes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, traced = copy.deepcopy(A), []

    def counting(*given: Any) -> Any:
        traced.append(given)
        return watch(*given)

    monkeypatch.setattr(stored_activations, "watch", counting)
    compared = partial(fr.objectives.activations_of, SYMMETRY, model=model)
    states = [convolutional(seed).state_dict() for seed in range(4)]
    found = [compared(state, states[0], args=(X,)) for state in states[1:]]
    assert len(traced) == 1
    assert not torch.equal(found[0].terms[0].b, found[1].terms[0].b)
    other = compared(states[1], states[0], args=(X + 1,))
    assert len(traced) == 1 and not torch.equal(other.terms[0].b, found[0].terms[0].b)
    compared(states[1], states[0], args=(X[:5],))
    assert len(traced) == 2


def test_inputs_that_are_no_tensors_may_be_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))

        def forward(self, x: Tensor, times: float = 1.0, about: object = None) -> Tensor:
            output: Tensor = self.layers(x) * times
            return output

    a, b, x = Scaled(), Scaled(), torch.randn(16, 3)
    symmetry = fr.analyze(a, args=(x,))
    traced = []

    def counting(*given: Any) -> Any:
        traced.append(given)
        return watch(*given)

    monkeypatch.setattr(stored_activations, "watch", counting)
    states, about = (b.state_dict(), a.state_dict()), np.zeros(2)
    for times, expected in ((1.0, 1), (1.0, 1), (2.0, 2)):
        kwargs = {"times": times, "about": about}
        fr.objectives.activations_of(symmetry, *states, model=a, args=(x,), kwargs=kwargs)
        assert len(traced) == expected


def test_what_was_traced_goes_with_the_model() -> None:
    model = copy.deepcopy(A)
    fr.objectives.activations_of(SYMMETRY, B.state_dict(), A.state_dict(), model=model, args=(X,))
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


class Shifted(nn.Module):
    """Its graph has the shift of the model that was traced, as a number."""

    shift: Tensor

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(3, 6), nn.Linear(6, 2)
        self.register_buffer("shift", torch.tensor(shift))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.leave((self.enter(x) + float(self.shift)).relu())
        return output


def test_of_numbers_that_a_graph_was_given_each_model_has_its_own() -> None:
    a, b, x = Shifted(0.0), Shifted(2.0), torch.randn(16, 3)
    symmetry = fr.analyze(a, args=(x,))
    expected = fr.objectives.activations(symmetry, b, a, (x,))
    for _ in range(2):
        found = fr.objectives.activations_of(
            symmetry, b.state_dict(), a.state_dict(), model=a, args=(x,)
        )
        check_same(found, expected)
    assert a not in stored_activations._WATCHED


def test_a_state_dict_of_another_model_is_refused() -> None:
    other = nn.Linear(3, 2).state_dict()
    with pytest.raises(ArchitectureMismatchError, match=r"the model has '0\.weight' of shape"):
        fr.objectives.activations_of(SYMMETRY, other, A.state_dict(), model=A, args=(X,))
