"""Arcs, Bezier curves, and curves of one's own."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import fxrebasin as fr
from fxrebasin.errors import InvalidArgumentError
from fxrebasin.merging.curves import Bezier, linear, spherical

repeatable = settings(derandomize=True, deadline=None, max_examples=60)
SHARES = st.floats(0.01, 0.99)
SEEDS = st.integers(0, 1000)


def vectors(seed: int, size: int = 7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, size, generator=generator, dtype=torch.float64)
    return a, b


@repeatable
@given(SEEDS, SHARES)
def test_an_arc_keeps_the_norm_of_vectors_of_one_norm(seed: int, t: float) -> None:
    a, b = (v / v.norm() for v in vectors(seed))
    assert spherical("w", a, b, t).norm().item() == pytest.approx(1, abs=1e-9)


@repeatable
@given(SEEDS, SHARES)
def test_an_arc_turns_by_its_share_of_the_angle(seed: int, t: float) -> None:
    a, b = (v / v.norm() for v in vectors(seed))
    whole = math.acos(float(a @ b))
    part = math.acos(min(float(a @ spherical("w", a, b, t)), 1.0))
    assert part == pytest.approx(t * whole, abs=1e-6)


@repeatable
@given(SEEDS, SHARES, st.floats(0.1, 10))
def test_the_arc_of_parallel_tensors_is_the_line(seed: int, t: float, factor: float) -> None:
    a, _ = vectors(seed)
    torch.testing.assert_close(spherical("w", a, factor * a, t), linear("w", a, factor * a, t))


@pytest.mark.parametrize("factor", [-1.0, 0.0])
def test_where_there_is_no_arc_the_line_takes_its_place(factor: float) -> None:
    a, _ = vectors(0)
    for start, end in ((a, factor * a), (factor * a, a)):
        assert torch.equal(spherical("w", start, end, 0.25), linear("w", start, end, 0.25))


@repeatable
@given(SEEDS, SHARES)
def test_an_arc_is_the_same_from_both_ends(seed: int, t: float) -> None:
    a, b = vectors(seed)
    torch.testing.assert_close(spherical("w", a, b, t), spherical("w", b, a, 1 - t))


def test_the_arc_of_almost_parallel_tensors_goes_over_into_the_line() -> None:
    a, b = vectors(1)
    for small in (1e-2, 3e-4, 1e-5, 1e-9):
        near = a + small * b
        difference = spherical("w", a, near, 0.3) - linear("w", a, near, 0.3)
        assert difference.norm() <= small**2 * 10


def test_complex_tensors_turn_as_pairs_of_numbers() -> None:
    a, b = torch.tensor([1 + 0j, 0j]), torch.tensor([0j, 1j])
    assert torch.linalg.vector_norm(spherical("w", a, b, 0.5)).item() == pytest.approx(1)


@repeatable
@given(SEEDS, SHARES)
def test_a_bezier_curve_through_the_midpoint_is_the_line(seed: int, t: float) -> None:
    a, b = vectors(seed)
    curve = Bezier({"w": (a + b) / 2})
    torch.testing.assert_close(curve("w", a, b, t), linear("w", a, b, t))


def test_a_bezier_curve_is_pulled_half_way_to_its_control_point() -> None:
    a, b = vectors(3)
    control = torch.ones(7, dtype=torch.float64)
    expected = ((a + b) / 2 + control) / 2
    torch.testing.assert_close(Bezier({"w": control})("w", a, b, 0.5), expected)


def _weights_on(curve: Any, models: tuple[nn.Module, nn.Module]) -> list[Tensor]:
    seen = []

    def evaluate(model: nn.Module) -> float:
        assert isinstance(model, nn.Linear)
        seen.append(model.weight.detach().clone())
        return 0.0

    fr.interpolate(*models, evaluate, curve=curve, steps=5, progress=False)
    return seen


@pytest.mark.parametrize("name", ["linear", "spherical"])
def test_a_curve_may_be_called_by_its_name(name: str) -> None:
    models = nn.Linear(3, 2), nn.Linear(3, 2)
    by_name, by_function = (_weights_on(c, models) for c in (name, getattr(fr.curves, name)))
    assert all(map(torch.equal, by_name, by_function))


@pytest.mark.parametrize(
    "curve",
    ["spherical", Bezier(nn.Linear(3, 2)), lambda name, start, end, t: start * 7],
    ids=["spherical", "bezier", "own"],
)
def test_the_ends_are_the_models_bit_for_bit_on_every_curve(curve: Any) -> None:
    a, b = nn.Linear(3, 2), nn.Linear(3, 2)
    first, *between, last = _weights_on(curve, (a, b))
    assert torch.equal(first, a.weight)
    assert torch.equal(last, b.weight)
    line = _weights_on("linear", (a, b))[1:-1]
    assert not any(map(torch.equal, between, line))


def test_a_curve_of_low_precision_is_rounded_once() -> None:
    a, b, control = (nn.Linear(64, 64).bfloat16() for _ in "abc")
    seen = _weights_on(Bezier(control), (a, b))
    start, bend, end = (m.weight.detach().float() for m in (a, control, b))
    expected = ((1 - 0.25) ** 2 * start + 2 * 0.25 * 0.75 * bend + 0.25**2 * end).bfloat16()
    assert torch.equal(seen[1], expected)


def test_buffers_lie_on_the_straight_line_whatever_the_curve() -> None:
    a, b = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    nn.init.constant_(b.running_var, 3.0)  # type: ignore[arg-type]
    seen = []

    def evaluate(model: nn.Module) -> float:
        seen.append(model.running_var.clone())  # type: ignore[operator]
        return 0.0

    control = {"weight": torch.full((3,), 9.0), "bias": torch.zeros(3)}
    fr.interpolate(a, b, evaluate, curve=Bezier(control), steps=3, progress=False)
    assert torch.equal(seen[1], torch.full((3,), 2.0))


@pytest.mark.parametrize(
    ("curve", "message"),
    [
        ("bezier", r"curve: expected 'linear', 'spherical' or a function, found 'bezier'; give fr"),
        (3, "curve: expected a function, found 3"),
        (Bezier, "curve: expected a function, found the class Bezier"),
        (lambda *_: None, r"that returns a tensor of shape \(2, 3\) for 'weight', found None"),
        (lambda *_: torch.zeros(()), r"tensor of shape \(2, 3\) for 'weight', found a Tensor"),
        (Bezier({}), r"control: expected a control point with 'weight' of shape \(2, 3\), found"),
        (Bezier(nn.Linear(3, 3)), r"'weight' of shape \(2, 3\), found a Tensor of shape \(3, 3\)"),
    ],
)
def test_what_is_no_curve_is_refused(curve: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        fr.interpolate(nn.Linear(3, 2), nn.Linear(3, 2), lambda _: 0.0, curve=curve)


def test_one_control_point_bends_one_leg() -> None:
    models = [nn.Linear(3, 2) for _ in "abc"]
    with pytest.raises(InvalidArgumentError, match="via: expected none, since one control point"):
        fr.interpolate(
            models[0], models[2], lambda _: 0.0, via=[models[1]], curve=Bezier(models[1])
        )
