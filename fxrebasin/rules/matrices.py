"""Inverses, determinants and factors of matrices, which are the last two axes of a tensor.

An inverse has the columns of its matrix as rows, and its rows as columns, in any order of either.
What a factorisation returns depends on the order of both: on pivots, triangles, signs. Units there
are pinned, at once or, where results are seldom used, when they are read (``order_of``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ..layouts.coordinates import Shape, all_distinct
from ..layouts.layout import Layout
from .call import Call
from .reduction import reduce_in_order


def inverse(call: Call, x: Layout, *args: Any, hermitian: bool = False, **kwargs: Any) -> Any:
    """The inverse or pseudoinverse; ``hermitian`` reads one triangle only."""
    x = _in_order(call, x) if hermitian else call.resolve(x)
    turned = _turn(call.merge(_lines(call, x, -2), _lines(call, x, -1)))
    return [turned, call.reduce(x, [-2, -1])][: len(call.shapes)]


def solve(
    call: Call, matrix: Layout, right: Layout, *, left: bool = True, **kwargs: Any
) -> list[Layout]:
    """The solution of a system of equations: the inverse times its right-hand side."""
    matrix = call.resolve(matrix)
    (inverted,) = inverse(call.with_shapes(matrix.shape), matrix)
    if right.ndim == 1 or right.shape == matrix.shape[:-1]:
        text = "... j i, ... i -> ... j"
    else:
        text = "... j i, ... i k -> ... j k" if left else "... j i, ... k j -> ... k i"
    steps = [_read_later(call, matrix, shape) for shape in call.shapes[1:3]]
    found = [call.signature(text, inverted, right), *steps, call.reduce(matrix, [-2, -1])]
    return found[: len(call.shapes)]


def solve_triangular(
    call: Call, matrix: Layout, right: Layout, *, left: bool = True, **kwargs: Any
) -> list[Layout]:
    """One triangle of the matrix is read, so that neither of its axes can be permuted."""
    return solve(call, _in_order(call, matrix), right, left=left)


def determinant(call: Call, x: Layout) -> list[Layout]:
    """It keeps its sign where rows and columns are permuted alike."""
    x = call.resolve(x)
    both = _tied(call, x)
    found = [call.reduce(both, [-2, -1])]
    return found + [_read_later(call, x, shape) for shape in call.shapes[1:]]


def log_determinant(call: Call, x: Layout) -> list[Layout]:
    """The sign depends on the order of rows and columns; the absolute value does not."""
    x = call.resolve(x)
    value = call.reduce(x, [-2, -1])
    sign = Layout(call.shape) if 0 in call.shape else replace(value, order_of=x)
    return [sign, value, *(_read_later(call, x, shape) for shape in call.shapes[2:])]


def trace(call: Call, x: Layout) -> Layout:
    """Rows meet columns on the diagonal."""
    return call.reduce(call.view(x, torch.diagonal)[0], [0])


def exponential(call: Call, x: Layout) -> Layout:
    """Rows and columns are permuted alike, since powers of the matrix are summed."""
    both = _tied(call, call.resolve(x))
    return call.merge(both, _turn(both))


def singular_values(call: Call, x: Layout, *args: Any, **kwargs: Any) -> list[Layout]:
    """They do not depend on the order of rows and columns; singular vectors do, by their signs."""
    x = call.resolve(x)
    left, values, right = call.shapes
    batch = call.reduce(x, [-2, -1]).reshape((*x.shape[:-2], 1))
    found = call.merge(batch, call.positions(values, [-1]))
    return [_read_later(call, x, left), found, _read_later(call, x, right)]


def factors(call: Call, x: Layout, *args: Any, **kwargs: Any) -> list[Layout]:
    """Factors and eigenvalues, whose axes are new: matrix by matrix, where there are many."""
    x = call.resolve(x)
    batch, k = reduce_in_order(call, x, [-2, -1]), x.ndim - 2
    return [
        Layout(shape)
        if 0 in shape
        else call.merge(
            batch.reshape((*x.shape[:k], *(1,) * (len(shape) - k))),
            call.positions(shape, range(k, len(shape))),
        )
        for shape in call.shapes
    ]


def diagonal(call: Call, x: Layout, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Layout:
    """Diagonal matrices: two axes that are permuted alike."""
    first, second = dim1 % len(call.shape), dim2 % len(call.shape)
    x = call.resolve(x)
    if offset:
        batch = _put_last(reduce_in_order(call, x, [-1]), first, second)
        return call.merge(batch, call.positions(call.shape, [first, second]))
    x = _tell_apart(call, x, -1)
    return call.merge(_put_last(x, first, second), _put_last(x, second, first))


def _put_last(x: Layout, first: int, second: int) -> Layout:
    """The last axis of ``x`` as the axis ``first``, and a new one of size 1 as ``second``."""
    x = x.reshape((*x.shape, 1))
    others = iter(range(x.ndim - 2))
    places = {first: x.ndim - 2, second: x.ndim - 1}
    return x.permute([places[d] if d in places else next(others) for d in range(x.ndim)])


def _turn(x: Layout) -> Layout:
    return x.permute((*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def _lines(call: Call, x: Layout, dim: int) -> Layout:
    """Rows or columns, those that lie along ``dim``, whatever is in them."""
    return _tell_apart(call, call.reduce(x, [-3 - dim], keepdim=True), dim)


def _tied(call: Call, x: Layout) -> Layout:
    """The rows, each of which moves with the column of its number."""
    return call.merge(_lines(call, x, -2), _turn(_lines(call, x, -1)))


def _tell_apart(call: Call, x: Layout, dim: int) -> Layout:
    """``x``, of which no two places along ``dim`` have the same units: new positions if need be."""
    lying = [c for c in x.coordinates if c.shape[dim] > 1]
    if x.shape[dim] < 2 or (lying and all_distinct(lying, (dim % x.ndim,))):
        return x
    return call.merge(x, call.positions(x.shape, [dim]))


def _in_order(call: Call, x: Layout) -> Layout:
    return call.merge(x, call.positions(x.shape, [-2, -1]))


def _read_later(call: Call, x: Layout, shape: Shape) -> Layout:
    """A result in which the order of ``x`` shows, if anything reads it."""
    return Layout(shape) if 0 in shape else replace(call.positions(shape), order_of=x)
