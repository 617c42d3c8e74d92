"""Layouts: reshaping coordinates is reshaping the arrays that they stand for."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fxrebasin.layouts.coordinates import along, collapse, pad_dims, positional, regroup, varies_on
from fxrebasin.layouts.ids import Ids
from fxrebasin.layouts.layout import Layout, Parameter
from fxrebasin.layouts.units import Units

repeatable = settings(derandomize=True, deadline=None, max_examples=60)

Shape = tuple[int, ...]


@st.composite
def groupings(draw: st.DrawFn, factors: list[int]) -> Shape:
    """Neighbouring factors multiplied, ones strewn in."""
    shape: list[int] = []
    product = 1
    for factor in factors:
        product *= factor
        if draw(st.booleans()):
            shape.append(product)
            product = 1
        if draw(st.integers(0, 4)) == 0:
            shape.append(1)
    if product > 1 or draw(st.booleans()):
        shape.append(product)
    return tuple(shape)


@st.composite
def reshapes(draw: st.DrawFn) -> tuple[Shape, Shape]:
    factors = draw(st.lists(st.integers(1, 4), min_size=0, max_size=5))
    before, after = draw(groupings(factors)), draw(groupings(factors))
    if prod(before) != prod(after):  # a last factor of one was left out of neither
        after = before
    return before, after


@st.composite
def coordinates(draw: st.DrawFn, shape: Shape) -> Ids:
    """Varies on some of the dimensions, with repeated ids."""
    sizes = [n if draw(st.booleans()) else 1 for n in shape]
    most = draw(st.integers(0, 6))
    flat = draw(st.lists(st.integers(0, most), min_size=prod(sizes), max_size=prod(sizes)))
    return np.array(flat, dtype=np.int64).reshape(sizes)


@repeatable
@given(reshapes())
def test_regrouping_pairs_dims_in_order_and_by_size(shapes: tuple[Shape, Shape]) -> None:
    before, after = shapes
    groups = regroup(before, after)
    assert [d for old, _ in groups for d in old] == list(range(len(before)))
    assert [d for _, new in groups for d in new] == list(range(len(after)))
    for old, new in groups:
        assert prod(before[d] for d in old) == prod(after[d] for d in new)


@pytest.mark.parametrize(
    ("before", "after", "groups"),
    [
        ((2, 6), (2, 3, 2), [((0,), (0,)), ((1,), (1, 2))]),
        ((2, 3, 4), (6, 4), [((0, 1), (0,)), ((2,), (1,))]),
        ((4, 3), (2, 6), [((0, 1), (0, 1))]),
        ((5,), (5, 1), [((0,), (0,)), ((), (1,))]),
        ((), (1,), [((), (0,))]),
        ((0, 3), (3, 0), [((0, 1), (0, 1))]),
    ],
)
def test_regrouping_keeps_apart_what_can_be(
    before: Shape, after: Shape, groups: list[tuple[Shape, Shape]]
) -> None:
    assert regroup(before, after) == groups


@repeatable
@given(st.data())
def test_reshaping_a_layout_reshapes_the_full_arrays(data: st.DataObject) -> None:
    before, after = data.draw(reshapes())
    c = data.draw(coordinates(before))
    moved = Layout(before, (c,)).reshape(after)
    assert moved.shape == after
    full = np.broadcast_to(c, before).reshape(after)
    assert np.array_equal(np.broadcast_to(moved.coordinates[0], after), full)


def test_reshaping_expands_only_the_dims_that_are_split_or_joined() -> None:
    c = along(np.arange(6), 2, 4)
    moved = Layout((5, 7, 6, 4), (c,)).reshape((35, 3, 2, 4))
    assert moved.coordinates[0].shape == (1, 3, 2, 1)


def test_reshaping_collapses_what_has_become_uniform() -> None:
    c = np.repeat(np.arange(3), 2)
    moved = Layout((6,), (c,)).reshape((3, 2))
    assert moved.coordinates[0].tolist() == [[0], [1], [2]]


def test_reshaping_nothing() -> None:
    moved = Layout((0, 4), (along(np.arange(4), 1, 2),)).reshape((2, 0, 2))
    assert moved.shape == (2, 0, 2)


@repeatable
@given(st.data())
def test_collapsing_loses_nothing_and_leaves_nothing_uniform(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=0, max_size=3)))
    c = np.broadcast_to(data.draw(coordinates(shape)), shape)
    small = collapse(c)
    assert np.array_equal(np.broadcast_to(small, shape), c)
    for d in varies_on(small):
        assert (small != small.take([0], axis=d)).any()


def test_collapsing_is_not_misled_by_equal_ends() -> None:
    c = np.array([1, 2, 1])
    assert collapse(c) is c


@repeatable
@given(st.data())
def test_permuting_dims_permutes_the_full_arrays(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    order = tuple(data.draw(st.permutations(range(len(shape)))))
    c = data.draw(coordinates(shape))
    moved = Layout(shape, (c,)).permute(order)
    assert moved.shape == tuple(shape[d] for d in order)
    full = np.broadcast_to(c, shape).transpose(order)
    assert np.array_equal(np.broadcast_to(moved.coordinates[0], moved.shape), full)


def test_along_and_pad_dims_and_varies_on() -> None:
    ids = np.arange(3)
    assert along(ids, 1, 3).shape == (1, 3, 1)
    assert pad_dims(along(ids, 0, 2), 4).shape == (1, 1, 3, 1)
    assert varies_on(np.zeros((2, 1, 3), dtype=np.int64)) == (0, 2)


def test_positions_tell_apart_everything_along_the_dims_asked_for() -> None:
    units = Units()
    every = positional(units, (2, 1, 3))
    assert [c.shape for c in every] == [(2, 1, 1), (1, 1, 3)]
    (last,) = positional(units, (2, 1, 3), (2,))
    assert last.ravel().tolist() == every[1].ravel().tolist()
    assert all(units.is_pinned(c).all() for c in every)


def test_coordinates_have_as_many_dims_as_their_tensor() -> None:
    with pytest.raises(AssertionError):
        Layout((2, 4), (np.zeros(4, dtype=np.int64),))


def test_a_buffer_of_statistics_acts_as_a_parameter() -> None:
    units = Units()
    buffer = Parameter(("bn.running_mean",), (3,), True, (units.fresh(3),))
    constant = Layout((3,), tuple(positional(units, (3,))), buffer=buffer)
    assert constant.as_parameter().parameter is buffer
    plain = Layout((3,))
    assert plain.as_parameter() is plain
    assert plain.ndim == 1
