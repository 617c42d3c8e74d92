"""The parts of the sparse solver, each against what it promises."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from benchmarks.assignment.kinds import matrix
from fxrebasin.assignment import solve_dense, solve_sparse
from fxrebasin.assignment.dense import recover_prices
from fxrebasin.assignment.problem import Indices, Optimum, Vector
from fxrebasin.assignment.sparse import scans as host
from fxrebasin.assignment.sparse.auction import FREE, Bidding, auction, completed
from fxrebasin.assignment.sparse.augmentation import augment
from fxrebasin.assignment.sparse.candidates import candidates, with_keys
from fxrebasin.assignment.sparse.chain import chain_prices, is_outer_product
from fxrebasin.assignment.sparse.columns import certify, solve, solve_again, still_optimal
from fxrebasin.assignment.sparse.dead_units import dead_pairs
from fxrebasin.assignment.sparse.device_scans import DeviceScans
from fxrebasin.assignment.sparse.engine import optimum, scans_over
from fxrebasin.assignment.sparse.prices import raise_prices
from fxrebasin.assignment.sparse.scans import HostScans, Scans
from fxrebasin.assignment.sparse.sinkhorn import sinkhorn

torch.set_num_threads(1)

N = 37
COLUMNS = "fxrebasin.assignment.sparse.columns"


def in_blocks(costs: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> HostScans:
    """Scans in three threads and in blocks of five rows."""
    monkeypatch.setattr(host, "ENTRIES_PER_THREAD", 1)
    scans = HostScans(costs, threads=3)
    scans.block = 5
    return scans


def on_device(costs: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> DeviceScans:
    scans = DeviceScans(torch.from_numpy(costs))
    scans.block = 5
    return scans


@pytest.mark.parametrize("make", [in_blocks, on_device])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_passes(
    make: Callable[[np.ndarray, pytest.MonkeyPatch], Scans],
    dtype: type[np.floating],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    costs = matrix("lowr", N).astype(dtype) / 3  # in float64, no value of float32
    scans = make(costs, monkeypatch)
    exact = costs.astype(np.float64)
    prices = matrix("gauss", N)[0].astype(np.float64)
    rows = np.array([30, 2, 2, 17, 5, 6, 7])
    net = exact - prices
    np.testing.assert_array_equal(scans.matrix(), costs)
    part = scans.part(rows, rows[:3])
    np.testing.assert_array_equal(part.matrix(), costs[rows][:, rows[:3]])
    assert scans.root_mean_square() == pytest.approx(np.sqrt((exact**2).mean()), rel=1e-5)
    np.testing.assert_allclose(scans.times(prices), exact @ prices, rtol=1e-4)
    np.testing.assert_allclose(scans.times_transposed(prices), prices @ exact, rtol=1e-4)
    np.testing.assert_array_equal(scans.take(rows), costs[rows])
    np.testing.assert_array_equal(scans.values(rows, rows[::-1]), exact[rows, rows[::-1]])
    for some in (None, rows):
        looked_at = net if some is None else net[some]
        best = scans.best(prices, some)
        np.testing.assert_array_equal(best.columns, looked_at.argmax(axis=1))
        np.testing.assert_allclose(best.first, np.sort(looked_at)[:, -1], rtol=1e-5)
        np.testing.assert_allclose(best.second, np.sort(looked_at)[:, -2], rtol=1e-5)
    utilities, slack = scans.transform(prices)
    np.testing.assert_allclose(utilities, net.max(axis=1), rtol=1e-5)
    np.testing.assert_allclose(slack, (net.max(axis=1, keepdims=True) - net).min(axis=0), atol=1e-5)
    bounds = utilities - 5
    keys = np.flatnonzero(net >= bounds[:, None])
    np.testing.assert_array_equal(scans.above(prices, bounds, len(keys)), keys)
    assert scans.above(prices, bounds, len(keys) - 1) is None
    some = np.unique(rows)
    keys = keys[np.isin(keys // N, some)]
    np.testing.assert_array_equal(scans.above(prices, bounds[some], len(keys), some), keys)
    assert scans.is_exact == (costs.dtype == np.float32)
    scores = np.exp(net[rows] / 3)
    demand = (scores / scores.sum(axis=1, keepdims=True)).sum(axis=0)
    np.testing.assert_allclose(scans.demand(rows, prices, 3.0), demand, rtol=0.1, atol=1e-9)


@pytest.mark.parametrize("make", [in_blocks, on_device])
def test_constant_rows_and_columns(
    make: Callable[[np.ndarray, pytest.MonkeyPatch], Scans], monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = matrix("gauss", N)
    costs[[4, 20]] = 2
    costs[:, 7] = 2
    costs[5, :-1] = 2  # but for one entry
    rows, columns = make(costs, monkeypatch).constant()
    assert rows.tolist() == [4, 20] and columns.tolist() == [7]


@pytest.mark.parametrize("kind", ["gauss", "copy1", "spec", "rank8", "dead", "dup", "rank1"])
def test_the_solver_on_device_passes(kind: str) -> None:
    costs = torch.from_numpy(matrix(kind, 90))
    exact = costs.double().numpy()
    found = optimum(costs, DeviceScans, None)
    best = exact[linear_sum_assignment(exact, maximize=True)].sum()
    assert exact[np.arange(90), found.columns].sum() == pytest.approx(best, rel=1e-12)
    assert found.gap == pytest.approx(0, abs=1e-10)


def test_an_unchanged_problem_costs_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = torch.from_numpy(matrix("spec", 100))
    scans = HostScans(costs.numpy(), threads=1)
    found = optimum(costs, lambda _: scans, None)
    calls: list[str] = []
    for name in ("best", "transform", "demand", "times", "times_transposed", "above", "take"):
        method = getattr(scans, name)

        def counted(*args: object, called: str, method: Callable, **kwargs: object) -> object:
            calls.append(called)
            return method(*args, **kwargs)

        monkeypatch.setattr(scans, name, partial(counted, called=name, method=method))
    again = optimum(costs, lambda _: scans, found)
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
    scans = HostScans(costs, threads=1)
    found = solve_again(scans, 1.0, earlier) if warm else solve(scans, 1.0)
    assert found is not None
    exact = costs.astype(np.float64)
    best = exact[linear_sum_assignment(exact, maximize=True)].sum()
    assert exact[np.arange(100), found.columns].sum() == pytest.approx(best, rel=1e-12)


def test_rows_that_take_what_they_like_best_need_no_second_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    costs = matrix("copy0.3", 100)
    costs[3, costs[4].argmax()] = costs[3].max() + 0.1
    scans = HostScans(costs, threads=1)
    asked: list[Any] = []
    above = scans.above

    def counted(*args: Any) -> Any:
        asked.append(args[-1])
        return above(*args)

    monkeypatch.setattr(scans, "above", counted)
    found = solve(scans, 1.0)
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


def test_an_auction_leaves_rows_content_within_its_step() -> None:
    scans = HostScans(matrix("gauss", 100), threads=1)
    bids = scans.best(np.zeros(100))
    prices, columns = auction(scans, np.zeros(100), bids, 2.0, Bidding(0.05, 12, 0.1))
    matched = np.flatnonzero(columns != FREE)
    assert len(matched) > 70
    assert len(set(columns[matched])) == len(matched)
    net = scans.costs - prices
    assert (net[matched, columns[matched]] >= net[matched].max(axis=1) - 0.1 - 1e-5).all()
    full = completed(scans, prices, columns)
    assert sorted(full) == list(range(100))
    assert (full[matched] == columns[matched]).all()


def test_sinkhorn_settles_what_all_rows_want() -> None:
    scans = HostScans(matrix("rank8", 400), threads=1)

    def wanted(prices: Vector) -> int:
        return len(np.unique(scans.best(prices).columns))

    assert wanted(np.zeros(400)) < 120
    assert wanted(sinkhorn(scans, float(scans.costs.std()))) > 200


def test_chain_prices_sort_outer_products() -> None:
    def centred(rows: NDArray[np.floating]) -> NDArray[np.float64]:
        return rows - rows.mean(axis=1, dtype=np.float64)[:, None]

    rng = np.random.default_rng(0)
    constants = rng.standard_normal((50, 1)) + rng.standard_normal(50)
    costs = matrix("rank1", 50) + constants
    for some in (costs[::5], costs[::6], costs[:2]):
        assert is_outer_product(centred(some))
    assert not is_outer_product(centred(costs[:1]))  # which tells nothing
    columns = (costs - chain_prices(HostScans(costs, threads=1))).argmax(axis=1)
    best = costs[linear_sum_assignment(costs, maximize=True)].sum()
    assert costs[np.arange(50), columns].sum() == pytest.approx(best, rel=1e-4)
    for kind in ("rank8", "gauss", "spec"):
        assert not is_outer_product(centred(matrix(kind, 50)[::5]))
    outlier = matrix("gauss", 50)
    outlier[5, 7] = 1e6
    assert not is_outer_product(centred(outlier[::5]))


def test_candidates_are_as_many_as_asked_for() -> None:
    scans = HostScans(matrix("spec", 300), threads=1)
    utilities, slack = scans.transform(np.zeros(300))
    required = np.random.default_rng(0).permutation(300)
    chosen = candidates(scans, utilities, -slack, required, per_row=20)
    assert chosen is not None
    keys = chosen.keys
    assert 10 * 300 < len(keys) < 40 * 300
    assert (np.diff(keys) > 0).all()
    assert np.isin(np.arange(300) * 300 + required, keys).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0.0, 300.0])
@pytest.mark.parametrize("rise", [0.0, 0.05, 0.5])
def test_content_rows_like_nothing_but_candidates_better(
    dtype: type, offset: float, rise: float
) -> None:
    rng = np.random.default_rng(0)
    costs: NDArray[np.floating] = (matrix("spec", 200) + offset).astype(dtype)
    scans = HostScans(costs, threads=1)
    utilities, slack = scans.transform(np.zeros(200))
    prices = -slack
    chosen = candidates(scans, utilities, prices, rng.permutation(200), per_row=10)
    assert chosen is not None
    raised = prices + rise * rng.random(200)
    lowered = utilities - rise * rng.random(200)
    content = chosen.content(lowered, raised)
    others = costs.astype(np.float64) - raised
    others[np.divmod(chosen.keys, 200)] = -np.inf
    assert (others.max(axis=1) <= lowered)[content].all()
    if rise < 0.5:
        assert content.any()


@pytest.mark.parametrize("kind", ["gauss", "spec"])
def test_the_solver_of_the_candidates_meets_a_known_assignment_first(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: list[list[int]] = []

    def spied(graph: csr_array) -> tuple[Indices, Indices]:
        first.append(graph.indices[graph.indptr[:-1]].tolist())
        return min_weight_full_bipartite_matching(graph)

    monkeypatch.setattr(
        "fxrebasin.assignment.sparse.columns.min_weight_full_bipartite_matching", spied
    )
    assert solve(HostScans(matrix(kind, 150), threads=1), 1.0) is not None
    assert first and all(sorted(columns) == list(range(150)) for columns in first)


@pytest.mark.parametrize(
    ("kind", "is_crowded"), [("gauss", False), ("lowr", False), ("rank8", True)]
)
def test_prices_are_balanced_where_columns_are_crowded(
    kind: str, is_crowded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    balanced: list[float] = []

    def spied(scans: Scans, scale: float) -> Vector:
        balanced.append(scale)
        return sinkhorn(scans, scale)

    monkeypatch.setattr(f"{COLUMNS}.sinkhorn", spied)
    assert solve(HostScans(matrix(kind, 400), threads=1), 1.0) is not None
    assert bool(balanced) == is_crowded


def test_keys_are_joined_without_repetition() -> None:
    joined = with_keys(np.array([1, 4, 9]), np.array([0, 4, 5, 12]))
    assert joined.tolist() == [0, 1, 4, 5, 9, 12]


@pytest.mark.parametrize("kind", ["copy1", "gauss", "spec"])
def test_bids_and_augmenting_paths_complete_an_assignment(kind: str) -> None:
    costs = matrix(kind, 80)
    scans = HostScans(costs, threads=1)
    bids = scans.best(np.zeros(80))
    wanted, first = np.unique(bids.columns, return_index=True)
    columns = np.full(80, FREE)
    columns[first] = wanted
    free = 80 - len(wanted)
    assert free > 0
    found = augment(scans, bids.first, np.zeros(80), columns, 10_000)
    assert found is not None
    prices, taken = found
    verdict = certify(scans, taken, prices, 1e-10, 80 * 80)
    assert verdict is not None and len(verdict.better) == 0
    if kind != "copy1":
        assert augment(scans, bids.first, np.zeros(80), columns, 2) is None


def test_verification_finds_what_is_better() -> None:
    costs = np.diag([3.0, 2.0, 1.0])
    wrong = np.array([1, 0, 2])
    verdict = certify(HostScans(costs, 1), wrong, np.zeros(3), 1e-9, 9)
    assert verdict is not None
    assert verdict.better.tolist() == [0, 4]
    assert verdict.gap == 5.0
    assert certify(HostScans(costs, 1), wrong, np.zeros(3), 1e-9, 3) is None


def edges_of(costs: np.ndarray) -> tuple[Indices, Indices, Vector]:
    n = len(costs)
    return np.arange(n + 1) * n, np.tile(np.arange(n), n), costs.ravel()


def test_prices_rise_until_rows_are_content() -> None:
    costs = matrix("spec", 60).astype(np.float64)
    _, columns = linear_sum_assignment(costs, maximize=True)
    own = costs[np.arange(60), columns]
    indptr, indices, _ = edges_of(costs)
    gains = (costs - own[:, None]).ravel()
    prices = raise_prices(indptr, indices, gains, columns, np.zeros(60), tolerance=1e-12, rounds=60)
    assert prices is not None
    net = costs - prices
    assert (net.max(axis=1) - net[np.arange(60), columns]).max() < 1e-10


def test_prices_of_what_is_not_optimal_rise_for_ever() -> None:
    costs = np.eye(3)
    columns = np.array([1, 2, 0])
    indptr, indices, gains = edges_of(costs)
    start = np.zeros(3)
    assert raise_prices(indptr, indices, gains, columns, start, tolerance=0, rounds=50) is None


def test_recovered_prices_prove_what_scipy_found() -> None:
    costs = matrix("rank8", 120)
    _, columns = linear_sum_assignment(costs, maximize=True)
    prices, gap = recover_prices(costs, columns)
    exact = costs.astype(np.float64)
    value = exact[np.arange(120), columns].sum()
    assert gap == pytest.approx((exact - prices).max(axis=1).sum() + prices.sum() - value, abs=1e-9)
    assert gap < 1e-9


def test_dead_pairs_are_found() -> None:
    costs = torch.from_numpy(matrix("gauss", 64))
    costs[[3, 9, 20]] = 0.5
    costs[:, [1, 5]] = 0.5
    scans = HostScans(costs.numpy(), 1)
    dead = dead_pairs(scans, *scans.constant())
    assert dead is not None
    assert dead.rows.tolist() == [3, 9] and dead.columns.tolist() == [1, 5]
    assert dead.constant == 0.5
    assert dead_pairs(scans, dead.rows[:1], dead.columns) is None


def test_dead_pairs_that_others_need_are_not_taken_out() -> None:
    costs = -1 - np.random.default_rng(0).random((64, 64), dtype=np.float32)
    costs[:8] = 0
    costs[:, :8] = 0
    exact = costs.astype(np.float64)
    found = optimum(costs, partial(HostScans, threads=1), None)
    best = exact[linear_sum_assignment(exact, maximize=True)].sum()
    assert exact[np.arange(64), found.columns].sum() == pytest.approx(best, rel=1e-12)


def test_repeated_rows_are_left_to_the_dense_solver() -> None:
    costs = matrix("dup", 100)
    assert solve(HostScans(costs, 1), 1.0) is None


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
