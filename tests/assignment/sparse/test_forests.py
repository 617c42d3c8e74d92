"""Sparse problems by forests of shortest paths: optimal, and soon also where rows are alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from fxrebasin.assignment import assign
from fxrebasin.assignment.problem import Indices, Vector
from fxrebasin.assignment.sparse.forests import solve_sparse_matrix

torch.set_num_threads(1)


def sparse_problem(
    n: int, per_row: int, levels: int, generator: np.random.Generator
) -> tuple[Indices, Indices, Vector, Indices]:
    """Rows of random entries, those of a permutation among them, of so many different values."""
    known = generator.permutation(n)
    held = generator.random((n, n)) < per_row / n
    held[np.arange(n), known] = True
    rows, columns = np.nonzero(held)
    costs = generator.integers(levels, size=len(rows)) / levels
    return np.searchsorted(rows, np.arange(n + 1)), columns, costs, known


def best_sum(indptr: Indices, indices: Indices, costs: Vector) -> float:
    n = len(indptr) - 1
    whole = np.full((n, n), -1e6)
    whole[np.repeat(np.arange(n), np.diff(indptr)), indices] = costs
    return float(whole[linear_sum_assignment(whole, maximize=True)].sum())


@given(
    n=st.integers(1, 60),
    per_row=st.integers(0, 12),
    levels=st.sampled_from([1, 2, 7, 10**6]),
    seed=st.integers(0, 2**32),
)
def test_the_sum_is_the_greatest_that_there_is(
    n: int, per_row: int, levels: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    indptr, indices, costs, known = sparse_problem(n, per_row, levels, generator)
    prices = generator.standard_normal(n)
    found = solve_sparse_matrix(indptr, indices, costs, known, prices.copy())
    assert sorted(found) == list(range(n))
    entries = {
        (row, column): cost
        for row in range(n)
        for column, cost in zip(
            indices[indptr[row] : indptr[row + 1]].tolist(),
            costs[indptr[row] : indptr[row + 1]].tolist(),
            strict=True,
        )
    }
    total = sum(entries[row, column] for row, column in enumerate(found.tolist()))
    assert total == pytest.approx(best_sum(indptr, indices, costs), abs=1e-9)


@pytest.mark.parametrize("n", [1, 40])
def test_neither_prices_nor_what_is_known_are_written_to(n: int) -> None:
    indptr, indices, costs, known = sparse_problem(n, 4, 50, np.random.default_rng(0))
    prices = np.ones(n)
    before = known.copy()
    solve_sparse_matrix(indptr, indices, costs, known, prices)
    assert (prices == 1).all() and (known == before).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("noise", [0, 1e-17, 1e-13, 1e-10, 1e-8, 1e-6])
def test_rows_that_are_alike_but_for_noise_come_to_an_end(noise: float, dtype: type) -> None:
    generator, n = np.random.default_rng(0), 512
    sizes = np.exp(generator.standard_normal((2, n)))
    few = np.outer(*sizes) * (generator.random((n, n)) < 0.02)
    costs: NDArray[np.floating] = few + noise * generator.standard_normal((n, n))
    found = assign(costs.astype(dtype)[None])
    best = costs[linear_sum_assignment(costs, maximize=True)].sum()
    assert found.value.item() == pytest.approx(best, rel=1e-6)
