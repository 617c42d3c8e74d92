"""Kinds of blocks behind ops with a rule of the user's own, which says more than permutations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fxrebasin as fr
from fxrebasin.errors import InvalidArgumentError, RefutedWarning
from fxrebasin.kinds.checking import error_under_elements
from fxrebasin.testing import check_rule


def over_time(x: Tensor) -> Tensor:
    return x.cumsum(-2) + x.flip(-2)


def cubed(x: Tensor) -> Tensor:
    return x**3 / (1 + x**2)


def sharp(x: Tensor) -> Tensor:
    return x.relu().square() / (x.relu() + 1e-300)


def summed(x: Tensor, scale: Tensor) -> Tensor:
    return x + scale


class Cell(nn.Module):
    """A module with a rule of its own."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.randn(size))

    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(-2) + self.shift


class Between(nn.Module):
    """Calls what has a rule by its name, where tracing finds it."""

    def __init__(self, between: str) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(4, 6), nn.Linear(6, 3)
        self.shift, self.short = nn.Parameter(torch.randn(6)), nn.Parameter(torch.randn(1))
        self.cell, self.between = Cell(6), between

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x)
        if self.between == "over_time":
            h = over_time(h)
        elif self.between == "cubed":
            h = cubed(h)
        elif self.between == "sharp":
            h = sharp(h)
        elif self.between == "summed":
            h = summed(h, self.shift)
        elif self.between == "summed, broadcast":
            h = summed(h, self.short)
        elif self.between == "of a library":
            h = torch.ops.fxrebasin_tests.over_time(h)
        else:
            h = self.cell(h)
        return self.leave(h)


X = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))


@contextmanager
def registered(target: Any, rule: str, acts: str) -> Iterator[None]:
    fr.register_rule(target, rule, acts=acts)
    try:
        yield
    finally:
        fr.unregister_rule(target)


@pytest.mark.parametrize(
    ("function", "rule", "acts", "kind"),
    [
        (over_time, "... _ c -> ... _ c", "linear", "GL(6)"),
        (over_time, "... _ c -> ... _ c", "monomial", "monomial"),
        (over_time, "... _ c -> ... _ c", "permutations", "S(6)"),
        (cubed, "... c -> ... c", "signed", "signed S(6)"),
        (sharp, "... c -> ... c", "positive", "positive monomial"),
        (summed, "... c, c -> ... c", "linear", "GL(6)"),
        (Cell, "... _ c, shift: c -> ... _ c", "linear", "GL(6)"),
    ],
)
@pytest.mark.parametrize("front_end", ["symbolic_trace", "eager"])
def test_what_a_rule_claims_is_the_kind_of_the_block(
    function: Any, rule: str, acts: str, kind: str, front_end: Any
) -> None:
    torch.manual_seed(0)
    model = Between(function.__name__)
    with registered(function, rule, acts):
        symmetry = fr.analyze(model, (X,), front_ends=[front_end])
        (block,) = symmetry
        assert symmetry.kinds.of(block.name).describe(6) == kind
        assert error_under_elements(model, (X,), symmetry=symmetry) < 1e-12
    if acts not in ("linear", "permutations"):
        assert f"allows {kind.removesuffix('(6)')}" in str(symmetry.explain("enter.weight", 0))


def test_ops_of_a_library_are_claimed_alike() -> None:
    @torch.library.custom_op("fxrebasin_tests::over_time", mutates_args=())
    def op(x: Tensor) -> Tensor:
        return x.cumsum(-2)

    @op.register_fake
    def _(x: Tensor) -> Tensor:
        return torch.empty_like(x)

    model = Between("of a library")
    with registered(op, "... _ c -> ... _ c", "linear"):
        symmetry = fr.analyze(model, (X,))
        assert [k.kind.name for k in symmetry.kinds.blocks.values()] == ["GL"]
        assert error_under_elements(model, (X,), symmetry=symmetry) < 1e-12


def test_an_operand_that_broadcasts_is_not_claimed() -> None:
    """A number that is added to all units alike is no vector of them."""

    model = Between("summed, broadcast")
    with registered(summed, "... c, c -> ... c", "linear"):
        symmetry = fr.analyze(model, (X,))
        assert {k.kind.name for k in symmetry.kinds.blocks.values()} == {"S"}
        assert error_under_elements(model, (X,), symmetry=symmetry) < 1e-12


@pytest.mark.parametrize(
    ("function", "rule", "acts", "sound"),
    [
        (over_time, "_ c -> _ c", "linear", True),
        (cubed, "... c -> ... c", "signed", True),
        (cubed, "... c -> ... c", "monomial", False),
        (sharp, "... c -> ... c", "positive", True),
        (sharp, "... c -> ... c", "signed", False),
        (torch.nn.functional.gelu, "... c -> ... c", "signed", False),
        (torch.relu, "... c -> ... c", "linear", False),
        (torch.mul, "n c, n c -> n c", "linear", False),
        (torch.mul, "n c, n c -> n c", "positive", False),
        (torch.add, "n c, n c -> n c", "linear", True),
        (torch.mm, "n k, k m -> n m", "linear", False),
    ],
)
def test_claims_are_held_against_the_op(function: Any, rule: str, acts: str, sound: bool) -> None:
    shapes = {torch.mul: [(3, 4)] * 2, torch.add: [(3, 4)] * 2, torch.mm: [(3, 4), (4, 5)]}
    generator = torch.Generator().manual_seed(0)
    args = [torch.randn(s, generator=generator) for s in shapes.get(function, [(3, 4)])]
    assert check_rule(function, *args, rule=rule, complete=False).sound
    check = check_rule(function, *args, rule=rule, acts=acts, complete=False)
    assert check.sound is sound, str(check)
    if not sound:
        assert f"it is said to act as {acts!r}, but random such elements change" in str(check)


def test_a_wrong_claim_of_signs_is_refuted_by_running_the_model() -> None:
    model = Between("sharp")
    with registered(sharp, "... c -> ... c", "signed"):
        unchecked = fr.analyze(model, (X,), check=False)
        assert unchecked.may_change_signs and "signed S" in str(unchecked)
        with pytest.warns(RefutedWarning, match="changes of sign were refuted by a test"):
            symmetry = fr.analyze(model, (X,))
    found = symmetry.kinds.of("enter.weight[0]")
    assert found.describe(6) == "S(6)"
    assert str(found.caps[-1]) == "a test with random weights allows S"
    assert symmetry.movable_units == 6
    assert "changes of sign were refuted" in symmetry.notes[-1]
    assert not fr.Transform.random(symmetry, group="signed").signs
    assert fr.Symmetry.from_json(symmetry.to_json()).kinds == symmetry.kinds


def test_what_was_registered_is_checked() -> None:
    with registered(cubed, "... c -> ... c", "monomial"):
        assert not check_rule(cubed, torch.randn(3, 4))
    with registered(cubed, "... c -> ... c", "signed"):
        assert check_rule(cubed, torch.randn(3, 4))


def test_rules_of_one_call_claim_nothing() -> None:
    with registered(cubed, "... c -> ... c", "signed"):
        symmetry = fr.analyze(Between("cubed"), (X,), rules={cubed: "... c -> ... c"})
    assert [k.kind.name for k in symmetry.kinds.blocks.values()] == ["S"]


def test_there_are_five_claims() -> None:
    text = r"acts: expected one of 'permutations', .*'linear', found 'orthogonal'"
    with pytest.raises(InvalidArgumentError, match=text):
        fr.register_rule(cubed, "... c -> ... c", acts="orthogonal")
    with pytest.raises(InvalidArgumentError, match=text):
        check_rule(cubed, torch.randn(3, 4), rule="... c -> ... c", acts="orthogonal")
