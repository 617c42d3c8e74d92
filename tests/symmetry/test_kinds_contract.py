"""Kinds that are read from a file agree with the symmetry that they belong to."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from kinds_by_hand import CASES

import fxrebasin as fr
from fxrebasin import Symmetry
from fxrebasin.errors import FileFormatError
from fxrebasin.symmetry.kinds_contract import check_kinds


@cache
def group(name: str) -> Symmetry:
    torch.manual_seed(0)
    return fr.analyze(CASES[name].make(), CASES[name].inputs(), check=False)


@pytest.mark.parametrize("name", ["GPT", "Llama", "LSTM", "a residual block", "tied GPT", "linear"])
def test_what_is_found_is_as_promised(name: str) -> None:
    symmetry = group(name)
    check_kinds(symmetry, symmetry.kinds)
    assert Symmetry.from_json(symmetry.to_json()).kinds == symmetry.kinds


DAMAGE: dict[str, tuple[str, Callable[[dict[str, Any]], Any], str]] = {
    "a factor less": (
        "linear",
        lambda k: k["factors"].pop(),
        "of a larger kind: expected a factor at ('1.weight', 0, 0, 0), found none",
    ),
    "another parity": (
        "linear",
        lambda k: k["factors"][0].update(parity=[2]),
        "expected 1 parities of -1, 0 or 1, found (2,)",
    ),
    "a parity too many": (
        "linear",
        lambda k: k["factors"][0].update(parity=[1, 1]),
        "expected 1 parities of -1, 0 or 1, found (1, 1)",
    ),
    "a factor nowhere": (
        "linear",
        lambda k: k["factors"][0].update(place=["2.weight", 0, 0, 0]),
        "a factor at ('2.weight', 0, 0, 0): expected a block there, found none",
    ),
    "a factor of another block": (
        "relu",
        lambda k: k["factors"][0].update(block="2.weight[0]"),
        "expected block '0.weight[0]', found '2.weight[0]'",
    ),
    "an exponent too many": (
        "relu",
        lambda k: k["factors"][0].update(scales=[[1, 1]]),
        "expected 1 rows of 1 exponents, one per scale",
    ),
    "signs of a kind that has none": (
        "relu",
        lambda k: k["blocks"]["0.weight[0]"].update(signs=1),
        "of the kind positive monomial: expected scales and signs of that, found 1 and 1",
    ),
    "a kind of no block": (
        "relu",
        lambda k: k["blocks"].update({"none": k["blocks"]["0.weight[0]"]}),
        "the kind of 'none': expected a block of that name, found none",
    ),
    "units that are mixed with others inside": (
        "attention written out",
        lambda k: k["blocks"]["q.weight[0]"].update(kind="O"),
        "block 'q.weight[0]', in which 'q.weight[0]#2' is nested: expected units not mixed",
    ),
    "a variance that is no number": (
        "a residual block",
        lambda k: k["variances"].update({"norm_one.running_var": float("nan")}),
        "the variance 'norm_one.running_var': expected a parameter and a number, found nan",
    ),
    "an absorbed vector that is not there": (
        "Llama",
        lambda k: k["absorptions"][0].update(vector="none"),
        "absorbing 'none': expected a parameter",
    ),
    "a reader that is not there": (
        "Llama",
        lambda k: k["absorptions"][0]["readers"][0][1].append(1.0),
        "expected a power per copy at",
    ),
    "what is centred nowhere": (
        "GPT",
        lambda k: k["centred"].append(["none", 0, 0, 0]),
        "centred at ('none', 0, 0, 0): expected a block there, found none",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_reading_ends_with_the_check(name: str) -> None:
    network, damage, text = DAMAGE[name]
    content = json.loads(group(network).to_json())
    content["format"] = "fxrebasin.symmetry/2"  # before there were digests
    del content["digest"]
    damage(content["kinds"])
    with pytest.raises(FileFormatError) as caught:
        Symmetry.from_json(json.dumps(content))
    assert text in str(caught.value)
