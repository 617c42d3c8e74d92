"""Networks that nobody designed: elements of the groups that are found keep what they compute."""

from __future__ import annotations

import random

import pytest
import torch

import fxrebasin as fr
from benchmarks.fuzz.networks import PROFILES, build, draw, example_inputs
from fxrebasin.kinds.checking import error_under_elements, error_under_rounding

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning"),
]


@pytest.mark.filterwarnings("ignore::fxrebasin.errors.RefutedWarning")
@pytest.mark.filterwarnings("ignore::fxrebasin.errors.UntouchedWarning")
@pytest.mark.parametrize("seed", range(48))
def test_elements_keep_what_random_networks_compute(seed: int) -> None:
    recipe = draw(random.Random(seed).choice, PROFILES[seed % len(PROFILES)])
    torch.manual_seed(seed)
    model, inputs = build(recipe), example_inputs(recipe)
    symmetry = fr.analyze(model, inputs)
    if error_under_rounding(model, inputs, symmetry=symmetry, seed=seed) > 1e-12:
        pytest.skip("with these weights, rounding alone changes what it computes")
    assert error_under_elements(model, inputs, symmetry=symmetry, seed=seed) < 1e-10, recipe
