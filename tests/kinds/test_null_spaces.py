"""Null spaces, held against ranks and against trying everything."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import gcd

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fxrebasin.kinds.null_spaces import null_space, null_space_of_signs

N = 5
rows = st.lists(st.dictionaries(st.integers(0, N - 1), st.integers(-3, 3), max_size=3), max_size=6)


@given(rows)
def test_a_basis_of_whole_numbers_that_solves_all(given_rows: list[dict[int, int]]) -> None:
    equations = [{u: Fraction(x) for u, x in row.items()} for row in given_rows]
    basis = null_space(equations, range(N))
    matrix = np.zeros((len(given_rows) + 1, N))
    for k, row in enumerate(given_rows):
        for u, x in row.items():
            matrix[k, u] = x
    assert len(basis) == N - np.linalg.matrix_rank(matrix)
    vectors = np.array([[v.get(u, 0) for u in range(N)] for v in basis]).reshape(-1, N)
    assert np.linalg.matrix_rank(vectors) == len(basis) if basis else True
    for vector in basis:
        assert all(sum(x * vector.get(u, 0) for u, x in row.items()) == 0 for row in given_rows)
        assert gcd(*vector.values()) == 1


@given(st.lists(st.sets(st.integers(0, N - 1), max_size=4), max_size=6))
def test_signs_that_every_equation_has_an_even_number_of(equations: list[set[int]]) -> None:
    basis = null_space_of_signs(equations, range(N))
    solutions = [
        {u for u in range(N) if bits[u]}
        for bits in product((0, 1), repeat=N)
        if all(sum(bits[u] for u in equation) % 2 == 0 for equation in equations)
    ]
    assert 2 ** len(basis) == len(solutions)
    assert all(vector in solutions for vector in basis)
