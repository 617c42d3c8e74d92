"""The checker of rules: what it calls unsound, what it finds lost, what it says."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import fxrebasin as fr
import fxrebasin.testing.check
from fxrebasin.errors import (
    InvalidArgumentError,
    InvalidInputError,
    RuleError,
    SignatureError,
    VerificationError,
)
from fxrebasin.layouts import primitives
from fxrebasin.layouts.layout import Layout
from fxrebasin.layouts.units import Units
from fxrebasin.rules.call import Call
from fxrebasin.testing.check import RuleCheck, check_rule

aten = torch.ops.aten


def x(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def affine(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.linear(x, weight, bias)


def head_norm(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(x.unflatten(1, (2, 3)), dim=2).flatten(1)


def check_affine(rule: str, **options: Any) -> RuleCheck:
    return check_rule(affine, x(2, 3), x(4, 3), x(4), rule=rule, **options)


def test_the_examples_in_the_module() -> None:
    result = doctest.testmod(fxrebasin.testing.check, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 5
    assert result.failed == 0


# what is sound


def test_a_right_rule_is_sound_and_loses_nothing() -> None:
    check = check_affine("n i, o i, o -> n o")
    assert check
    assert check.error < 1e-14
    assert check.lost == ()
    assert [(b.size, b.axes) for b in check.symmetry] == [
        (2, (("x", 0), ("result", 0))),
        (3, (("x", 1), ("weight", 1))),
        (4, (("weight", 0), ("bias", 0), ("result", 1))),
    ]


@pytest.mark.parametrize(
    "rule",
    [
        "n z, o i, o -> n o",
        "n i, o z, o -> n o",
        "n i, z i, o -> n o",
        "n i, o i, z -> n o",
        "z i, o i, o n -> n o",
    ],
)
def test_each_tie_that_is_missing_is_noticed(rule: str) -> None:
    bias = x(4, 2) if "o n" in rule else x(4)
    op = affine if bias.ndim == 1 else lambda x, w, b: x @ w.T + b.T
    check = check_rule(op, x(2, 3), x(4, 3), bias, rule=rule)
    assert not check
    assert check.error > 1e-3


def test_the_block_that_is_wrong_is_named() -> None:
    check = check_affine("n i, o i, z -> n o")
    assert check.problem.startswith("moving weight[0] and result[1] together changes result by ")
    assert str(check) == f"affine: UNSOUND, {check.problem}"
    with pytest.raises(VerificationError) as caught:
        check.raise_if_unsound()
    assert str(caught.value) == (
        f"the rule of affine is not sound: {check.problem}; tie together what has to move "
        "together, or pin it"
    )
    check_affine("n i, o i, o -> n o").raise_if_unsound()


def test_equal_values_do_not_hide_a_missing_tie() -> None:
    def scaled(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return x * scale

    assert not check_rule(scaled, x(2, 5), torch.ones(5), rule="n c, d -> n c")
    assert not check_rule(scaled, torch.zeros(2, 5), torch.zeros(5), rule="n c, d -> n c")
    assert check_rule(scaled, torch.zeros(2, 5), torch.ones(5), rule="n c, c -> n c")


def test_a_rule_may_be_wrong_for_weights_alone() -> None:
    def forgets_weights(call: Call, x: Layout, scale: Layout) -> Layout:
        return call.merge(x, Layout(scale.shape) if scale.parameter else scale)

    check = check_rule(torch.mul, x(2, 5), x(5), rule=forgets_weights)
    assert not check


def test_results_that_are_held_to_be_equal_are_compared() -> None:
    def constant(call: Call, x: Layout) -> Layout:
        return Layout(call.pin(x, "does not matter").shape, ())

    check = check_rule(torch.relu, x(2, 5), rule=constant)
    assert not check
    assert check.error == float("inf")
    assert check.problem == "it says that entries of result are equal which are not"


def test_a_rule_must_not_forget_a_result() -> None:
    def both(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.exp(), x.sin()

    with pytest.raises(RuleError, match="the rule of both returns 1 layouts for 2 results"):
        check_rule(both, x(2, 5), rule=lambda call, x: x)
    assert not check_rule(both, x(2, 5), rule=lambda call, x: [x, Layout(x.shape)])
    assert check_rule(both, x(2, 5), rule="n c -> n c")


def test_indices_of_units_follow_them() -> None:
    def unordered(call: Call, x: Layout, dim: int, *args: Any) -> Layout:
        return call.pinned(call.reduce(x, [dim], keepdim=True))[0]

    assert check_rule(aten.argsort, x(2, 5), 1)
    assert not check_rule(aten.argsort, x(2, 5), 1, rule=unordered)


def test_a_sum_over_part_of_an_axis_demands_its_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice: by a label, and by a claim that the label suffices."""

    def first_three(x: torch.Tensor) -> torch.Tensor:
        return x[:, :3].sum(1)

    def rule(call: Call, x: Layout) -> Layout:
        return call.reduce(call.move(x, lambda t: t[:, :3])[0], [1])

    found = check_rule(first_three, x(2, 5), rule=rule)
    assert found
    monkeypatch.setattr(primitives, "_keep_set", lambda units, coordinate: None)
    assert check_rule(first_three, x(2, 5), rule=rule).symmetry.log_order < found.symmetry.log_order
    monkeypatch.setattr(Units, "claim", lambda *args, **kwargs: None)
    assert not check_rule(first_three, x(2, 5), rule=rule)


# what is lost


def test_pinned_axes_that_could_move_are_found() -> None:
    check = check_affine("_ i, o i, o -> _ o")
    assert check.sound
    assert check.lost == ("x[0] and result[0] can be permuted together, but the rule pins them",)
    assert str(check).splitlines()[1:] == [f"  {line}" for line in check.lost]


def test_ties_between_axes_that_move_alone_are_found() -> None:
    def total(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x.sum() + y.sum()

    check = check_rule(total, x(5), x(5), rule="c, c ->")
    assert check.sound
    assert check.lost == (
        "y[0] can be permuted alone, but the rule ties it to x[0]",
        "x[0] can be permuted alone, but the rule ties it to y[0]",
    )


def test_blocks_and_places_inside_them_are_looked_at() -> None:
    check = check_rule(head_norm, x(5, 6), rule=lambda call, x: call.pin(x, "heads", [1]))
    assert check.sound
    assert check.lost == (
        "the 3 places inside all 2 blocks of x[1] and the 3 places inside all 2 blocks of "
        "result[1] can be permuted together, but the rule pins them",
        "the first 3 places of x[1] and the first 3 places of result[1] can be permuted "
        "together, but the rule pins them",
        "the 2 blocks of x[1] and the 2 blocks of result[1] can be permuted together, but the "
        "rule pins them",
        "the first 2 places of x[1] and the first 2 places of result[1] can be permuted "
        "together, but the rule pins them",
    )
    assert not check_rule(head_norm, x(5, 6), rule="n c -> n c")
    assert check_rule(head_norm, x(5, 6), rule=head_norm_rule).lost == ()


def head_norm_rule(call: Call, x: Layout) -> Layout:
    heads = call.move(x, lambda t: t.unflatten(1, (2, 3)))[0]
    normed = call.merge(heads, call.reduce(heads, [2], keepdim=True))
    return call.move(normed, lambda t: t.flatten(1))[0]


def test_the_search_can_be_left_out() -> None:
    assert check_affine("_ i, o i, o -> _ o", complete=False).lost == ()


def test_a_constant_result_says_nothing_about_symmetry() -> None:
    check = check_rule(aten.isnan, x(2, 5))
    assert check.sound
    assert check.lost == ()


# what can be checked


def test_an_op_of_a_library() -> None:
    @torch.library.custom_op("fxrebasin_tests::scaled_softmax", mutates_args=())
    def scaled_softmax(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return x.softmax(-1) * scale

    packet = torch.ops.fxrebasin_tests.scaled_softmax
    for op in (scaled_softmax, packet, packet.default):
        check = check_rule(op, x(2, 5), x(5), rule="... c, c -> ... c")
        assert check.sound, str(check)
        assert check.op == "fxrebasin_tests.scaled_softmax.default"
        assert not check_rule(op, x(2, 5), x(5), rule="... c, d -> ... c")


def test_a_rule_that_was_registered_is_the_default() -> None:
    fxrebasin.register_rule(head_norm, "n c -> n c")
    try:
        assert not check_rule(head_norm, x(5, 6))
    finally:
        fxrebasin.unregister_rule(head_norm)
    with pytest.raises(InvalidArgumentError, match="softmax has no rule"):
        check_rule(torch.Tensor.softmax, x(5, 6), 1)
    fxrebasin.register_rule(torch.Tensor.softmax, "n c -> n c")
    try:
        assert check_rule(torch.Tensor.softmax, x(5, 6), 1)
        assert not check_rule(torch.Tensor.softmax, x(5, 6), 1, rule="n c -> n _")
    finally:
        fxrebasin.unregister_rule(torch.Tensor.softmax)


@pytest.mark.parametrize(
    ("rule", "sound"),
    [
        ("... i, weight: o i, bias: o -> ... o", True),
        ("... i, weight: o i, bias: p -> ... o", False),
        ("... i, weight: o j, bias: o -> ... o", False),
        (
            lambda call, x: call.signature(
                "... i, o i, o -> ... o", x, call.parameter("weight"), call.parameter("bias")
            ),
            True,
        ),
    ],
)
def test_a_module_is_checked_with_what_it_stores(rule: Any, sound: bool) -> None:
    layer = nn.Linear(5, 3)
    check = check_rule(layer, torch.randn(2, 5), rule=rule)
    assert check.sound == sound, str(check)
    assert check.lost == ()
    assert check.op == "Linear"
    assert layer.weight.dtype == torch.float32


def test_a_module_has_the_rule_that_was_registered_for_its_type() -> None:
    class Half(nn.Linear):
        pass

    with pytest.raises(InvalidArgumentError, match=r"Half\(.*\) has no rule"):
        check_rule(Half(5, 3), torch.randn(2, 5))
    fr.register_rule(nn.Linear, "... i, weight: _ i, bias: _ -> ... _")
    try:
        check = check_rule(Half(5, 3), torch.randn(2, 5))
    finally:
        fr.unregister_rule(nn.Linear)
    assert check.lost == (
        "weight[0], bias[0] and result[1] can be permuted together, but the rule pins them",
    )


def test_running_statistics_of_a_module_are_permuted() -> None:
    norm = nn.BatchNorm1d(4).eval()
    text = "n c, weight: c, bias: c, running_mean: c, running_var: c -> n c"
    assert check_rule(norm, torch.randn(3, 4), rule=text).sound
    assert not check_rule(norm, torch.randn(3, 4), rule=text.replace("var: c", "var: d")).sound


def test_the_overload_and_the_form_of_arguments_are_torchs() -> None:
    assert check_rule(aten.max, x(3, 4), x(4)).op == "aten.max.other"
    assert check_rule(aten.max, x(3, 4), 1).op == "aten.max.dim"
    check = check_rule(aten._softmax, x(3, 4), half_to_float=False, dim=1)
    assert check.sound, str(check)


def test_one_tensor_given_twice_is_one_tensor() -> None:
    t = x(5, 4)
    check = check_rule(torch.add, t, t, rule="n c, n c -> n c")
    assert len(check.symmetry.parameters) == 2
    assert check.sound


def test_arguments_are_left_as_they_are() -> None:
    t, before = x(2, 5), x(2, 5)
    assert check_rule(aten.exp_, t)
    assert torch.equal(t, before)


def test_a_check_can_be_repeated() -> None:
    state = torch.get_rng_state()
    one, two = (check_affine("n i, o i, z -> n o", seed=3) for _ in range(2))
    assert one.problem == two.problem
    assert torch.equal(torch.get_rng_state(), state)


# errors


@pytest.mark.parametrize(
    ("run", "error", "text"),
    [
        (
            lambda: check_rule(torch.add, 1, torch.ones(3, dtype=torch.int64), rule="c -> c"),
            InvalidArgumentError,
            "check_rule permutes floating-point tensors, but add was given none that has anything "
            r"to permute \(arguments: int, int64 tensor of shape \(3,\)\)",
        ),
        (
            lambda: check_rule(head_norm, x(5, 6)),
            InvalidArgumentError,
            "head_norm has no rule: it is neither registered, nor built in, nor a pointwise op; "
            r"pass rule='...' or call fxrebasin.register_rule first",
        ),
        (
            lambda: check_rule(aten.mm, x(5, 6), x(5, 6)),
            InvalidInputError,
            r"aten.mm.default does not run on these arguments in float64, of shapes "
            r"\{'self': \(5, 6\), 'mat2': \(5, 6\)\}: RuntimeError: ",
        ),
        (
            lambda: check_rule(aten.mm, x(5, 6), 1, 2, 3),
            InvalidInputError,
            "aten.mm does not take these arguments: ",
        ),
        (
            lambda: check_rule(torch.numel, x(5, 6), rule="n c ->"),
            InvalidInputError,
            "numel returns no tensor on these arguments",
        ),
        (
            lambda: check_rule(torch.t, x(5, 6), rule=lambda call, x: x),
            RuleError,
            r"the rule of t says that result 0 has shape \(5, 6\), but its shape is \(6, 5\)",
        ),
        (lambda: check_rule(torch.t, x(5, 6), rule="n -> n"), SignatureError, "n -> n"),
        (lambda: check_rule(torch.t, x(5, 6), rule="n ("), SignatureError, "->"),
    ],
)
def test_what_cannot_be_checked(
    run: Callable[[], RuleCheck], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        run()
