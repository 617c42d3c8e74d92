"""Assignments: optimal, certified, stable, and clear about bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from benchmarks.assignment.kinds import KINDS, matrix
from fxrebasin.assignment import (
    Assignment,
    Engine,
    assign,
    solve_dense,
    solve_on_device,
    solve_sparse,
    suitable,
)
from fxrebasin.errors import InvalidArgumentError, InvalidParameterError

torch.set_num_threads(1)

ENGINES: list[Engine] = [solve_dense, solve_sparse, solve_on_device]
FORMS = ["1", "1e-30", "1e32", "1e35", "1e200", "1e-200", "double", "half", "integers"]


def assert_optimal(costs: NDArray[np.generic], found: Assignment) -> None:
    """Compare values with scipy's, and compute the gap of the prices anew."""
    for b, exact in enumerate(costs.astype(np.float64)):
        rows, columns = linear_sum_assignment(exact, maximize=True)
        size = np.abs(exact[rows, columns]).sum() + 1e-300
        taken = found.columns[b].numpy()
        assert sorted(taken) == list(range(len(exact)))
        value = exact[rows, taken].sum()
        assert value >= exact[rows, columns].sum() - 1e-12 * size
        assert found.value[b].item() == pytest.approx(value, rel=1e-12, abs=1e-12 * size)
        assert found.prices is not None and found.gap is not None
        prices = found.prices[b].numpy()
        gap = (exact - prices).max(axis=1).sum() + prices.sum() - value
        assert abs(gap) <= 1e-11 * size
        assert abs(found.gap[b].item() - gap) <= 1e-11 * size


def as_costs(kind: str, n: int, seed: int, form: str) -> NDArray[np.generic]:
    costs = matrix(kind, n, seed)
    if form == "integers":
        return np.round(2 * costs).astype(np.int64)
    if form == "half":
        return np.clip(costs, -6e4, 6e4).astype(np.float16)
    if form == "double":
        return costs.astype(np.float64) * np.pi
    if form in ("1e200", "1e-200"):
        return costs.astype(np.float64) * float(form)
    return costs * np.float32(form)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    n=st.integers(2, 48),
    seed=st.integers(0, 1000),
    form=st.sampled_from(
        ["1", "1e-30", "1e32", "1e35", "1e200", "1e-200", "double", "half", "integers"]
    ),
    engine=st.sampled_from(ENGINES),
)
def test_value_and_certificate(kind: str, n: int, seed: int, form: str, engine: Engine) -> None:
    costs = as_costs(kind, n, seed, form)
    if not np.isfinite(costs.astype(np.float64)).all():
        return  # the largest entries of few overflow at the largest scale
    assert_optimal(costs[None], assign(costs[None], engine=engine, certify=True))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_larger_matrices(kind: str) -> None:
    costs = matrix(kind, 200)[None]
    assert_optimal(costs, assign(costs, engine=solve_sparse))


@pytest.mark.parametrize("engine", ENGINES)
def test_batches_of_different_problems(engine: Engine) -> None:
    costs = np.stack([matrix(kind, 30) for kind in ("gauss", "copy1", "dup", "rank1", "dead")])
    assert_optimal(costs, assign(costs, engine=engine, certify=True))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("outlier", [1e4, 1e8, 1e30])
def test_outliers_do_not_hide_the_rest(engine: Engine, outlier: float) -> None:
    costs = matrix("gauss", 40).astype(np.float64)
    rest = costs[1:, 1:]
    costs[0, 0] = outlier
    columns = assign(costs[None], engine=engine).columns[0].numpy()
    rows, expected = linear_sum_assignment(rest, maximize=True)
    assert columns[0] == 0
    assert rest[rows, columns[1:] - 1].sum() == pytest.approx(rest[rows, expected].sum(), rel=1e-12)


def test_offsets_do_not_hide_the_rest() -> None:
    costs = (matrix("gauss", 60).astype(np.float64) + 1e7)[None]
    assert_optimal(costs, assign(costs, engine=solve_sparse))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("value", [0.0, -3.0, 1e-40])
def test_constants(engine: Engine, value: float) -> None:
    costs = np.full((1, 7, 7), value, dtype=np.float32)
    assert_optimal(costs, assign(costs, engine=engine, certify=True))


@pytest.mark.parametrize("n", [0, 1])
def test_nothing_to_choose(n: int) -> None:
    found = assign(torch.full((3, n, n), 2.5))
    assert found.columns.tolist() == [[0] * n] * 3
    assert found.value.tolist() == [2.5 * n] * 3
    assert found.gap is not None and found.gap.tolist() == [0.0] * 3


def test_an_empty_batch() -> None:
    assert assign(torch.zeros(0, 4, 4)).columns.shape == (0, 4)


@pytest.mark.parametrize("engine", ENGINES)
def test_tensors_of_any_layout(engine: Engine) -> None:
    costs = torch.from_numpy(matrix("lowr", 20))[None].requires_grad_()
    found = assign(costs.mT, engine=engine)
    assert found.columns.dtype == torch.int64 and found.value.dtype == torch.float64
    assert found.value.item() == pytest.approx(assign(costs, engine=engine).value.item())


def test_half_precision_is_solved_as_given() -> None:
    costs = torch.from_numpy(matrix("lowr", 20))[None].bfloat16()
    assert_optimal(costs.double().numpy(), assign(costs, engine=solve_sparse))


@pytest.mark.parametrize("engine", ENGINES)
def test_the_same_input_gives_the_same_output(engine: Engine) -> None:
    costs = np.round(matrix("rank8", 100))[None]
    first, second = (assign(costs, engine=engine, certify=True) for _ in range(2))
    assert torch.equal(first.columns, second.columns)
    assert first.prices is not None and second.prices is not None
    assert torch.equal(first.prices, second.prices)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_earlier_optimum_is_kept(engine: Engine) -> None:
    """All permutations of equal units are optimal; none is better than the one at hand."""
    costs = torch.from_numpy(matrix("dup", 40))[None]
    costs[:, :, 1::2] = costs[:, :, ::2]
    found = assign(costs, engine=engine, certify=True)
    partner = torch.arange(40) ^ 1  # columns 2k and 2k + 1 are equal
    other = Assignment(partner[found.columns], found.value, None, None)
    assert torch.equal(assign(costs, warm=other, engine=engine).columns, other.columns)
    nudged = costs * (
        1 + 1e-9 * torch.randn(costs.shape, generator=torch.Generator().manual_seed(0))
    )
    again = assign(nudged, warm=found, engine=engine, certify=True)
    assert torch.equal(again.columns, found.columns)
    assert_optimal(nudged.numpy(), again)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    n=st.integers(2, 60),
    noise=st.sampled_from([0.0, 1e-6, 1e-3, 0.1, 10.0]),
    engine=st.sampled_from(ENGINES),
)
def test_a_warm_start_changes_no_value(kind: str, n: int, noise: float, engine: Engine) -> None:
    costs = matrix(kind, n).astype(np.float64)[None]
    earlier = assign(costs, engine=solve_sparse)
    changed = costs + noise * matrix("gauss", n, 1)
    assert_optimal(changed, assign(changed, warm=earlier, engine=engine, certify=True))


def test_an_earlier_solution_that_is_worse_is_not_kept() -> None:
    costs = torch.from_numpy(matrix("gauss", 30))[None]
    identity = torch.arange(30)[None]
    for prices in (None, torch.zeros(1, 30, dtype=torch.float64)):
        earlier = Assignment(identity, torch.zeros(1), prices, None)
        found = assign(costs, warm=earlier, engine=solve_sparse)
        assert_optimal(costs.numpy(), found)


def test_prices_only_where_there_are_some() -> None:
    costs = matrix("gauss", 10)[None]
    found = assign(costs, engine=solve_dense)
    assert found.prices is None and found.gap is None


def test_an_engine_of_ones_own() -> None:
    def identity(costs: Tensor, warm: Assignment | None) -> Assignment:
        columns = torch.arange(costs.shape[1]).expand(costs.shape[:2])
        return Assignment(columns, costs.diagonal(dim1=1, dim2=2).sum(1).double(), None, None)

    costs = matrix("gauss", 5)[None]
    found = assign(costs, engine=identity, certify=True)
    assert found.columns.tolist() == [[0, 1, 2, 3, 4]]
    assert found.gap is not None and found.gap.item() > 0.1


def test_the_engine_follows_from_the_size() -> None:
    assert suitable(torch.empty(1, 100, 100)) is solve_dense
    assert suitable(torch.empty(1, 2000, 2000)) is solve_sparse


def test_errors_of_shape() -> None:
    expected = (
        r"gains: expected a batch of square matrices, shape \(B, n, n\), found \(3, 4\); give a "
        r"single matrix as gains\[None\], and pad or cut others"
    )
    with pytest.raises(InvalidArgumentError, match=expected):
        assign(torch.zeros(3, 4), name="gains")
    with pytest.raises(InvalidArgumentError, match=r"found \(2, 3, 4\)"):
        assign(torch.zeros(2, 3, 4))


def test_error_of_complex_costs() -> None:
    with pytest.raises(
        InvalidArgumentError,
        match=r"costs: expected real costs, found torch.complex64; take their real part",
    ):
        assign(torch.zeros(1, 2, 2, dtype=torch.complex64))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_error_of_costs_that_are_not_finite(bad: float) -> None:
    costs = torch.zeros(4, 3, 3)
    costs[2, 1, 0] = bad
    with pytest.raises(
        InvalidParameterError,
        match=rf"gains\[2\]: expected finite costs, found {bad} in row 1, column 0; look for over",
    ):
        assign(costs, name="gains")


def test_large_finite_costs_are_no_error() -> None:
    costs = np.where(np.eye(3) > 0, 3e38, -3e38).astype(np.float32)
    assert assign(costs[None]).columns.tolist() == [[0, 1, 2]]


def test_error_of_a_warm_start_of_another_shape() -> None:
    earlier = assign(torch.zeros(1, 3, 3))
    with pytest.raises(
        InvalidArgumentError,
        match=r"warm: expected a solution of costs, columns of shape \(1, 4\), found \(1, 3\); "
        r"give warm=None where shapes differ",
    ):
        assign(torch.zeros(1, 4, 4), warm=earlier)
