"""What a rule's author has: the methods of a call."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import fxrebasin as fr
from fxrebasin.errors import InvalidArgumentError, RuleError
from fxrebasin.layouts.coordinates import along
from fxrebasin.layouts.ids import Ids
from fxrebasin.layouts.layout import Layout, Parameter
from fxrebasin.layouts.units import Units
from fxrebasin.rules import call as call_module
from fxrebasin.rules.call import Call


def make_call(*shapes: tuple[int, ...]) -> Call:
    return Call(Units(), "op", shapes)


def make_parameter(units: Units, *shape: int) -> Parameter:
    return Parameter(("weight",), shape, False, tuple(units.fresh(n) for n in shape))


def features(call: Call, *shape: int) -> tuple[Layout, Ids]:
    """A tensor with movable units along its last axis."""
    ids = call.units.fresh(shape[-1])
    return Layout(shape, (along(ids, len(shape) - 1, len(shape)),)), ids


def test_positions_are_pinned_and_differ() -> None:
    call = make_call((2, 3))
    x = call.positions((2, 3), [-1])
    (coordinate,) = x.coordinates
    assert coordinate.shape == (1, 3)
    assert call.units.is_pinned(coordinate).all()
    assert call.units.count_distinct(coordinate) == 3
    assert len(call.positions((2, 3)).coordinates) == 2
    assert call.positions((2, 3), []).coordinates == ()


def test_what_meets_positions_is_pinned() -> None:
    call = make_call((2, 3))
    x, ids = features(call, 2, 3)
    call.merge(x, call.positions((2, 3), [0]))
    assert not call.units.is_pinned(ids).any()
    call.merge(x, call.positions((2, 3), [1]))
    assert call.units.is_pinned(ids).all()


def test_merging_what_is_reduced_next_gives_a_weight_units_along_that_alone() -> None:
    """``x @ w.T`` with ``x`` of shape (2, 4) and ``w`` of shape (3, 4)."""
    call = make_call((2, 3))
    x, ids = features(call, 2, 1, 4)
    weight = make_parameter(call.units, 3, 4)
    call.merge(x, weight.layout(), reduced=[2])
    of_inputs, of_outputs = sorted(weight.coordinates, key=lambda c: c.shape[0])
    assert of_inputs.ravel().tolist() == ids.tolist()
    assert not np.isin(of_outputs, ids).any()


def test_a_view_leaves_a_parameter_without_units_and_a_movement_does_not() -> None:
    call = make_call((3, 2))
    weight = make_parameter(call.units, 2, 3)
    (view,) = call.view(weight.layout(), lambda t: t.t())
    assert view.parameter is weight
    assert not weight.coordinates
    (moved,) = call.move(weight.layout(), lambda t: t.t())
    assert moved.parameter is None
    assert weight.coordinates


def test_dims_may_be_negative() -> None:
    call = make_call((2, 3))
    x, ids = features(call, 2, 3)
    assert call.reduce(x, [-1]).shape == (2,)
    assert call.concatenate([x, x], -1).shape == (2, 6)
    call.pin(x, "stays", [-1])
    assert call.units.is_pinned(ids).all()


def test_units_that_the_examples_leave_out_are_pinned() -> None:
    call = make_call((2, 3))
    x, ids = features(call, 2, 6)
    (used,) = call.move(x, lambda t: t[:, 1:4])
    call.pin_unused(x, used, "is not used")
    assert call.units.is_pinned(ids).tolist() == [True, False, False, False, True, True]
    other, others = features(call, 2, 3)
    call.pin_unused(other, used, "is not used")
    assert not call.units.is_pinned(others).any()


def test_what_is_not_understood_pins_its_operands_and_has_a_position_per_entry() -> None:
    call = make_call((2, 2), (4,))
    x, ids = features(call, 3)
    weight = make_parameter(call.units, 3)
    call.units.site = "fft"
    first, second = call.pinned(x, weight.layout())
    assert call.units.is_pinned(ids).all()
    assert call.units.is_pinned(np.concatenate(weight.coordinates)).all()
    cause = call.units.causes[call.units.cause(ids)[0]]
    assert str(cause) == "op is not understood (at fft)"
    assert (first.shape, second.shape) == ((2, 2), (4,))
    assert len(first.coordinates) == 2
    assert all(call.units.is_pinned(c).all() for c in first.coordinates)


def test_a_step_of_a_rule_has_a_shape_of_its_own() -> None:
    call = make_call((2, 3))
    x, _ = features(call, 2, 4)
    assert call.with_shapes((2,)).signature("n c -> n", x).shape == (2,)
    assert call.shape == (2, 3)


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        (lambda call, x: [x, x], r"returns 2 layouts for 1 results; .* call\.pinned\(operands\)"),
        (lambda call, x: call.reduce(x, [0]), r"result 0 has shape \(3,\), but its shape is"),
    ],
)
def test_results_are_checked(rule: Callable[..., object], problem: str) -> None:
    with pytest.raises(RuleError, match=problem):
        fr.testing.check_rule(torch.exp, torch.randn(2, 3), rule=rule)  # type: ignore[arg-type]


def test_a_module_stores_what_a_rule_asks_for() -> None:
    with pytest.raises(InvalidArgumentError, match=r"asks for .weight., but the module"):
        make_call((2,)).parameter("weight")


def test_rules_are_written_with_calls_and_layouts_alone() -> None:
    """Beside these they use functions of one coordinate, where they run an op on it."""
    found: dict[str, set[str]] = {}
    for path in Path(call_module.__file__).parent.glob("*.py"):
        if path.stem not in ("call", "registry"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and node.level == 2:
                    names = {alias.name for alias in node.names}
                    found.setdefault(node.module or "", set()).update(names)
    assert found.pop("layouts.layout") == {"Layout"}
    assert found.pop("layouts.ids") == {"NOWHERE", "Ids"}
    assert "positional" not in found.pop("layouts.coordinates")
    assert not found
