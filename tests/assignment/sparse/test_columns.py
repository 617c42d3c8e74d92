"""The solver of few columns per row: what it looks at, what it proves, what it leaves to others."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from benchmarks.assignment.kinds import matrix
from fxrebasin.assignment.problem import Optimum, Vector
from fxrebasin.assignment.sparse.columns import certify, solve, solve_again, still_optimal
from fxrebasin.assignment.sparse.engine import optimum
from fxrebasin.assignment.sparse.scans import HostScans, Scans
from fxrebasin.assignment.sparse.sinkhorn import sinkhorn

torch.set_num_threads(1)

COLUMNS = "fxrebasin.assignment.sparse.columns"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("warm", [False, True])
def test_the_last_rows_of_a_nearly_solved_problem_need_no_candidates(
    dtype: type, warm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs: NDArray[np.floating] = matrix("copy0.3", 100).astype(dtype) + np.pi
    costs[3, costs[4].argmax()] = costs[3].max() + 1
    earlier = solve(HostScans(costs, threads=1), 1.0)
    assert earlier is not None
    if warm:
        costs[[5, 6]] = costs[[6, 5]]
    monkeypatch.setattr(f"{COLUMNS}.candidates", None)
    passes = HostScans(costs, threads=1)
    found = solve_again(passes, 1.0, earlier) if warm else solve(passes, 1.0)
    assert found is not None
    exact = costs.astype(np.float64)
    best = exact[linear_sum_assignment(exact, maximize=True)].sum()
    assert exact[np.arange(100), found.columns].sum() == pytest.approx(best, rel=1e-12)


def test_rows_that_take_what_they_like_best_need_no_second_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    costs = matrix("copy0.3", 100)
    costs[3, costs[4].argmax()] = costs[3].max() + 0.1
    passes = HostScans(costs, threads=1)
    asked: list[Any] = []
    above = passes.above

    def counted(*args: Any) -> Any:
        asked.append(args[-1])
        return above(*args)

    monkeypatch.setattr(passes, "above", counted)
    found = solve(passes, 1.0)
    assert found is not None and found.gap == 0
    assert 0 < sum(map(len, asked)) < 20
    value = costs.astype(np.float64)[np.arange(100), found.columns].sum()
    best = costs.astype(np.float64)[linear_sum_assignment(costs, maximize=True)].sum()
    assert value == pytest.approx(best, rel=1e-12)


def test_what_single_precision_cannot_tell_is_looked_at() -> None:
    """To single precision every row likes a column of its own best; in double precision two rows
    gain by an exchange, for 1 + 5.5e-8 is then rounded to 1."""
    costs = np.eye(60) - np.random.default_rng(0).random((60, 60)) * (1 - np.eye(60))
    costs[0, 1], costs[1, 0] = 1 + 5.5e-8, 1 - 4e-8
    assert len(np.unique(costs.astype(np.float32).argmax(axis=1))) == 60
    found = solve(HostScans(costs, threads=1), 1.0)
    assert found is not None
    np.testing.assert_array_equal(found.columns, [1, 0, *range(2, 60)])


def test_many_ties_do_not_hide_that_nothing_changed() -> None:
    costs = matrix("dup", 200)
    found = optimum(costs, partial(HostScans, threads=1), None)
    assert still_optimal(HostScans(costs, 1), found, 1e-6) == pytest.approx(0, abs=1e-6)
    worse = Optimum(np.roll(found.columns, 1), found.prices, 0.0)
    assert still_optimal(HostScans(costs, 1), worse, 1e-6) is None


@pytest.mark.parametrize(
    ("kind", "is_crowded"), [("gauss", False), ("lowr", False), ("rank8", True)]
)
def test_prices_are_balanced_where_columns_are_crowded(
    kind: str, is_crowded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    balanced: list[float] = []

    def spied(passes: Scans, scale: float) -> Vector:
        balanced.append(scale)
        return sinkhorn(passes, scale)

    monkeypatch.setattr(f"{COLUMNS}.sinkhorn", spied)
    assert solve(HostScans(matrix(kind, 400), threads=1), 1.0) is not None
    assert bool(balanced) == is_crowded


def test_verification_finds_what_is_better() -> None:
    costs = np.diag([3.0, 2.0, 1.0])
    wrong = np.array([1, 0, 2])
    verdict = certify(HostScans(costs, 1), wrong, np.zeros(3), 1e-9, 9)
    assert verdict is not None
    assert verdict.better.tolist() == [0, 4]
    assert verdict.gap == 5.0
    assert certify(HostScans(costs, 1), wrong, np.zeros(3), 1e-9, 3) is None


def test_repeated_rows_are_left_to_the_dense_solver() -> None:
    costs = matrix("dup", 100)
    assert solve(HostScans(costs, 1), 1.0) is None
