"""Kinds that are too large are found by running the model, and named."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from kinds_by_hand import CASES, mlp
from torch import nn

import fxrebasin as fr
from fxrebasin.errors import VerificationError
from fxrebasin.kinds.checking import verify_kinds


@pytest.mark.parametrize("name", ["GPT", "LSTM", "a depthwise convolution"])
def test_what_is_right_is_not_refused(name: str) -> None:
    torch.manual_seed(0)
    model, inputs = CASES[name].make(), CASES[name].inputs()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    symmetry = fr.analyze(model, inputs, check=False)
    assert verify_kinds(model, inputs, symmetry=symmetry) < 1e-12
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_blocks_of_too_large_a_kind_are_named() -> None:
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    model = mlp(nn.ReLU(), nn.Tanh(), widths=(4, 6, 5, 3))
    wrong = fr.analyze(mlp(nn.ReLU(), nn.ReLU(), widths=(4, 6, 5, 3)), (x,), check=False)
    with pytest.raises(VerificationError) as caught:
        verify_kinds(model, (x,), symmetry=wrong)
    assert "change what Sequential computes by" in str(caught.value)
    assert "do: '2.weight[0]', as positive monomial. Please" in str(caught.value)


def test_a_norm_that_is_no_vector_of_ones_is_found() -> None:
    """The same group, had it forgotten that a norm has to be absorbed."""
    torch.manual_seed(0)
    model, inputs = CASES["Llama"].make(), CASES["Llama"].inputs()
    symmetry = fr.analyze(model, inputs, check=False)
    kinds = symmetry.kinds
    blocks = {name: replace(kind, absorbed=()) for name, kind in kinds.blocks.items()}
    forgetful = replace(kinds, blocks=blocks, absorptions=())
    wrong = replace(symmetry, evidence=None, known_kinds=forgetful)
    with pytest.raises(VerificationError, match=r"as O\(12\)\. Please"):
        verify_kinds(model, inputs, symmetry=wrong)
