"""What the coordinates of a layout say about each other's units."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts.test_pairs import parents_of

from fxrebasin.layouts.coordinates import along
from fxrebasin.layouts.layout import Layout
from fxrebasin.layouts.settling import settle
from fxrebasin.layouts.units import Units

repeatable = settings(derandomize=True, deadline=None, max_examples=60)


def test_one_to_one_means_equal() -> None:
    units = Units()
    a, b = units.fresh(3), units.fresh(3)
    result = settle(units, Layout((3,), (a, b[::-1].copy())))
    assert units.find(b[::-1]).tolist() == a.tolist()
    assert len(result.coordinates) == 1
    assert not units.is_pinned(a).any()


@pytest.mark.parametrize("swap", [False, True])
def test_many_to_one_means_inside(swap: bool) -> None:
    units = Units()
    children, parents = units.fresh(6), units.fresh(2)
    above = parents.repeat(3)
    settle(units, Layout((6,), (above, children) if swap else (children, above)))
    assert parents_of(units, children) == [{int(p)} for p in above]
    assert units.find(children).tolist() == children.tolist()
    assert not units.is_pinned(np.concatenate([children, parents])).any()


def test_a_full_product_means_nothing() -> None:
    units = Units()
    rows, columns = units.fresh(2), units.fresh(3)
    result = settle(units, Layout((6,), (rows.repeat(3), np.tile(columns, 2))))
    assert not units.parents and not units.labels
    assert units.version == 0
    assert len(result.coordinates) == 2


def test_coordinates_along_different_dims_are_independent() -> None:
    units = Units()
    a, b = units.fresh(3), units.fresh(3)
    result = settle(units, Layout((3, 3), (along(a, 0, 2), along(b, 1, 2))))
    assert len(result.coordinates) == 2
    assert units.find(b).tolist() == b.tolist()
    assert not units.parents


def test_what_follows_from_another_coordinate_is_dropped() -> None:
    units = Units()
    children, parents = units.fresh(4), units.fresh(2)
    result = settle(units, Layout((4,), (children, parents.repeat(2))))
    assert [c.tolist() for c in result.coordinates] == [children.tolist()]


def test_members_of_one_class_on_one_axis_are_kept_apart() -> None:
    """Query and key features in one packed projection."""
    units = Units()
    q, k = units.fresh(3), units.fresh(3)
    units.equate(q, k)
    result = settle(units, Layout((6,), (np.concatenate([q, k]),)))
    tuples = set(zip(*(c.tolist() for c in result.coordinates), strict=True))
    assert len(tuples) == 6


@st.composite
def layouts(draw: st.DrawFn) -> tuple[Units, Layout]:
    """Up to three coordinates, each with movable or with pinned units."""
    units = Units()
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=2)))
    found = []
    for k in range(draw(st.integers(1, 3))):
        sizes = [n if draw(st.booleans()) else 1 for n in shape]
        count = draw(st.integers(1, prod(sizes)))
        ids = units.positions(k, count) if draw(st.integers(0, 3)) == 0 else units.fresh(count)
        flat = draw(st.lists(st.integers(0, count - 1), min_size=prod(sizes), max_size=prod(sizes)))
        found.append(ids[np.array(flat)].reshape(sizes))
    return units, Layout(shape, tuple(found))


def rows(layout: Layout) -> list[tuple[int, ...]]:
    """Per entry, its units in every coordinate."""
    if not layout.coordinates:
        return [()] * prod(layout.shape)
    full = [np.broadcast_to(c, layout.shape).ravel().tolist() for c in layout.coordinates]
    return list(zip(*full, strict=True))


@repeatable
@given(layouts())
def test_settling_never_makes_different_entries_look_equal(case: tuple[Units, Layout]) -> None:
    units, layout = case
    before = rows(layout)
    after = rows(settle(units, layout))
    origin: dict[tuple[int, ...], tuple[int, ...]] = {}
    for old, new in zip(before, after, strict=True):
        assert origin.setdefault(new, old) == old
