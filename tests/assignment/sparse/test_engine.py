"""Single problems: optimal, certified, and cheap where an earlier solution helps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from benchmarks.assignment.kinds import matrix
from fxrebasin.assignment import solve_dense, solve_sparse
from fxrebasin.assignment.sparse.device_scans import DeviceScans
from fxrebasin.assignment.sparse.engine import optimum, scans_over
from fxrebasin.assignment.sparse.scans import HostScans

torch.set_num_threads(1)


@pytest.mark.parametrize("kind", ["gauss", "copy1", "spec", "rank8", "dead", "dup", "rank1"])
def test_the_engine_on_scans_of_a_device(kind: str) -> None:
    costs = torch.from_numpy(matrix(kind, 90))
    exact = costs.double().numpy()
    found = optimum(costs, DeviceScans, None)
    best = exact[linear_sum_assignment(exact, maximize=True)].sum()
    assert exact[np.arange(90), found.columns].sum() == pytest.approx(best, rel=1e-12)
    assert found.gap == pytest.approx(0, abs=1e-10)


def test_an_unchanged_problem_costs_one_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = torch.from_numpy(matrix("spec", 100))
    passes = HostScans(costs.numpy(), threads=1)
    found = optimum(costs, lambda _: passes, None)
    calls: list[str] = []
    for name in ("best", "transform", "demand", "times", "times_transposed", "above", "take"):
        method = getattr(passes, name)

        def counted(*args: object, called: str, method: Callable, **kwargs: object) -> object:
            calls.append(called)
            return method(*args, **kwargs)

        monkeypatch.setattr(passes, name, partial(counted, called=name, method=method))
    again = optimum(costs, lambda _: passes, found)
    assert calls == ["take", "above"]  # some rows, and all
    np.testing.assert_array_equal(again.columns, found.columns)


@pytest.mark.parametrize("kind", ["gauss", "copy1", "copy3", "lowr", "spec", "rank8"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("changed", [1, 3, 60, 120])
def test_an_earlier_solution_helps_to_solve_what_has_changed(
    kind: str, dtype: type, changed: int
) -> None:
    rng = np.random.default_rng(changed)
    costs: NDArray[np.floating] = matrix(kind, 120).astype(dtype)
    found = optimum(costs, scans_over, None)
    warm = found._replace(prices=found.prices + 1e-3)  # not zero, so that they are looked at
    costs[rng.permutation(120)[:changed]] += 2 * rng.standard_normal((changed, 120))
    again = optimum(costs, scans_over, warm)
    exact = costs.astype(np.float64)
    best = exact[linear_sum_assignment(exact, maximize=True)].sum()
    assert exact[np.arange(120), again.columns].sum() == pytest.approx(best, rel=1e-12)
    slack = (exact - again.prices).max(axis=1) - (exact - again.prices)[
        np.arange(120), again.columns
    ]
    assert slack.sum() == pytest.approx(0, abs=1e-9)
    assert again.gap == pytest.approx(slack.sum(), abs=1e-9)


def test_dead_pairs_that_others_need_are_not_taken_out() -> None:
    costs = -1 - np.random.default_rng(0).random((64, 64), dtype=np.float32)
    costs[:8] = 0
    costs[:, :8] = 0
    exact = costs.astype(np.float64)
    found = optimum(costs, partial(HostScans, threads=1), None)
    best = exact[linear_sum_assignment(exact, maximize=True)].sum()
    assert exact[np.arange(64), found.columns].sum() == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("n", [2, 63, 64, 65, 300])
def test_rows_that_like_different_columns_are_content(n: int) -> None:
    costs = torch.randn(n, n, generator=torch.Generator().manual_seed(n))
    columns = torch.randperm(n, generator=torch.Generator().manual_seed(n))
    costs[torch.arange(n), columns] += 100
    found = solve_sparse(costs[None])
    assert found.columns.tolist() == [columns.tolist()]
    assert found.gap is not None
    assert found.gap.item() == 0.0
    costs[n - 1] = costs[0]  # the last of all to be looked at
    assert solve_sparse(costs[None]).value == pytest.approx(solve_dense(costs[None]).value)
