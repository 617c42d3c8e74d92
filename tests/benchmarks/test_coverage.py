"""The benchmark of coverage: its control of its own power, and models that it must run at all."""

from __future__ import annotations

import warnings

import pytest
import torch

from benchmarks.coverage.architectures_transformers import build_transformer
from benchmarks.coverage.rows import CONTROLS, median_control
from benchmarks.measuring.double_precision import run_in_double_precision
from fxrebasin.models.precision import relative_error

NAMES = [f"tensor {k}" for k in range(11)]


def asked_about(names: list[str], silent: int) -> tuple[float, list[str]]:
    """The control where the first tensors that are asked about do not matter, and who was asked."""
    asked: list[str] = []

    def change_without(name: str) -> float:
        asked.append(name)
        return 0.0 if len(asked) <= silent else 1.0

    return median_control(names, change_without), asked


@pytest.mark.parametrize("silent", [0, 1])
def test_a_few_tensors_show_that_the_test_has_power(silent: int) -> None:
    control, asked = asked_about(NAMES, silent)
    assert control == 1.0
    assert len(asked) == CONTROLS


@pytest.mark.parametrize("silent", [2, 3, 5])
def test_all_are_asked_where_chance_draws_those_that_do_not_matter(silent: int) -> None:
    control, asked = asked_about(NAMES, silent)
    assert control == 1.0
    assert sorted(asked) == sorted(NAMES)


def test_a_test_without_power_is_called_that() -> None:
    control, asked = asked_about(NAMES, 6)
    assert control == 0.0
    assert len(asked) == len(NAMES)
    assert asked_about([], 0) == (0.0, [])


@pytest.mark.parametrize("name", ["qwen2_moe", "qwen3_moe"])
def test_mixtures_of_experts_run_in_single_precision_and_in_double(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, args, kwargs = build_transformer(name)
        with torch.no_grad():
            single = model.eval()(*args, **kwargs).logits
        double = run_in_double_precision(model.double(), args, kwargs).logits
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    assert 1e-9 < relative_error(double, single) < 1e-5
