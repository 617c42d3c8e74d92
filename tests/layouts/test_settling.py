"""What coordinates that meet say about each other's units."""

from __future__ import annotations

from collections import Counter
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fxrebasin.layouts import pairs as pairing
from fxrebasin.layouts.coordinates import along
from fxrebasin.layouts.ids import Ids
from fxrebasin.layouts.layout import Layout
from fxrebasin.layouts.pairs import find_pairs, nest_pairs, relate_pairs
from fxrebasin.layouts.rows import is_closed_in_rows
from fxrebasin.layouts.settling import settle
from fxrebasin.layouts.units import Units

repeatable = settings(derandomize=True, deadline=None, max_examples=60)


def reason(units: Units, unit: int) -> str:
    return units.causes[int(units.cause(np.array([unit]))[0])].text


def parents_of(units: Units, ids: Ids) -> list[set[int]]:
    """Per unit, the parents that were recorded for it."""
    found: dict[int, set[int]] = {}
    for child, parent, _ in units.parents:
        for c, p in zip(child.tolist(), parent.tolist(), strict=True):
            found.setdefault(c, set()).add(p)
    return [found.get(i, set()) for i in ids.tolist()]


def exchangeable(units: Units, ids: Ids) -> list[int]:
    """Per unit, a number; equal where no label tells units apart."""
    keys = []
    for i in ids.tolist():
        key = tuple(int(values[ids == i][0]) for ids, values in units.labels if (ids == i).any())
        keys.append(key)
    seen: dict[tuple[int, ...], int] = {}
    return [seen.setdefault(key, len(seen)) for key in keys]


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


def test_components_that_are_full_products_have_a_coarser_parent() -> None:
    """Two query heads and two shared key heads in each of two groups."""
    units = Units()
    a, b = units.fresh(4), units.fresh(6)
    left = [a[0], a[0], a[0], a[1], a[1], a[1], a[2], a[2], a[2], a[3], a[3], a[3]]
    right = [*b[:3], *b[:3], *b[3:], *b[3:]]
    relate_pairs(units, np.array(left), np.array(right))
    (p,), (q,) = parents_of(units, a)[0], parents_of(units, a)[2]
    assert p != q
    assert parents_of(units, a) == [{p}, {p}, {q}, {q}]
    assert parents_of(units, b) == [{p}] * 3 + [{q}] * 3
    assert not units.is_pinned(np.concatenate([a, b])).any()


def test_what_is_no_full_product_is_pinned() -> None:
    units = Units()
    a, b = units.fresh(2), units.fresh(2)
    relate_pairs(units, a[[0, 0, 1]], b[[0, 1, 1]])
    assert units.is_pinned(np.concatenate([a, b])).all()
    assert not units.parents
    assert "meets other units" in reason(units, int(a[0]))


def test_whether_units_nest_can_be_asked_without_pinning() -> None:
    units = Units()
    a, b, c = units.fresh(2), units.fresh(2), units.fresh(1)
    assert not nest_pairs(units, a[[0, 0, 1]], b[[0, 1, 1]])
    assert not units.is_pinned(np.concatenate([a, b])).any()
    assert not units.parents
    assert nest_pairs(units, a, c.repeat(2))
    assert parents_of(units, a) == [{int(c[0])}] * 2


def test_two_single_units_that_meet_are_equal() -> None:
    units = Units()
    a, b = units.fresh(1), units.fresh(1)
    relate_pairs(units, a, b)
    assert units.find(b).tolist() == a.tolist()


def test_one_unit_that_meets_many_is_not_their_parent() -> None:
    """It could not move anyway."""
    units = Units()
    relate_pairs(units, units.fresh(1).repeat(3), units.fresh(3))
    assert not units.parents


def test_units_are_partitioned_by_the_pinned_ones_they_meet() -> None:
    units = Units()
    a = units.fresh(4)
    kinds = units.positions(0, 2)
    settle(units, Layout((4,), (a, kinds[[0, 1, 0, 1]])))
    assert not units.is_pinned(a).any()
    assert exchangeable(units, a) == [0, 1, 0, 1]


def test_a_unit_that_alone_meets_a_pinned_position_is_pinned() -> None:
    units = Units()
    a = units.fresh(3)
    settle(units, Layout((3,), (a, units.positions(0, 2)[[0, 0, 1]])))
    assert units.is_pinned(a).tolist() == [False, False, True]
    assert reason(units, int(a[2])) == "meets a pinned position that no other unit meets"


def test_units_that_all_meet_the_same_positions_stay_exchangeable() -> None:
    units = Units()
    a, positions = units.fresh(3), units.positions(0, 4)
    tokens = Layout((4, 3), (along(a, 1, 2), along(positions, 0, 2)))
    result = settle(units, tokens)
    assert not units.labels
    assert len(result.coordinates) == 2


def test_pinned_positions_count_jointly() -> None:
    """Each of two units meets each row and each column, but in different combinations."""
    units = Units()
    a = units.fresh(2)
    checks = np.array([[0, 1], [1, 0]])
    rows, columns = units.positions(0, 2), units.positions(1, 2)
    settle(units, Layout((2, 2), (a[checks], along(rows, 0, 2), along(columns, 1, 2))))
    assert units.is_pinned(a).all()


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


@repeatable
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=40))
def test_pairs_are_those_that_occur(given_pairs: list[tuple[int, int]]) -> None:
    units = Units()
    units.fresh(10)
    x, y = (np.array(side) for side in zip(*given_pairs, strict=True))
    a, b = find_pairs(units, x, y)
    assert list(zip(a.tolist(), b.tolist(), strict=True)) == sorted(set(given_pairs))


def closed_by_hand(x: Ids, y: Ids, pinned: list[Ids], inside: set[int]) -> bool:
    """Entry by entry."""
    shape = np.broadcast_shapes(x.shape, y.shape, *(p.shape for p in pinned))
    x, y, *pinned = (np.broadcast_to(c, shape) for c in (x, y, *pinned))
    rows: dict[tuple[int, ...], Counter[tuple[int, int]]] = {}
    for at in np.ndindex(shape):
        outside = [n for d, n in enumerate(at) if d not in inside]
        row = rows.setdefault((*outside, *(int(p[at]) for p in pinned)), Counter())
        row[int(x[at]), int(y[at])] += 1
    every = {pair for row in rows.values() for pair in row}
    return all(
        len(set(row.values())) == 1
        and {(a, b) for a, b in every if a in {i for i, _ in row} and b in {j for _, j in row}}
        == set(row)
        for row in rows.values()
    )


@settings(repeatable, max_examples=300)
@given(st.integers(0, 10**6))
def test_what_every_row_must_hold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    units = Units()
    ids = units.fresh(5)
    shape = (2, 3, 4)

    def coordinate() -> Ids:
        sizes = [n if rng.random() < 0.7 else 1 for n in shape[:2]]
        found = ids[rng.integers(0, rng.integers(1, 4), (*sizes, 4))]
        repeated: Ids = np.sort(found, axis=-1) if rng.random() < 0.5 else found
        return repeated

    x, y, *pinned = (coordinate() for _ in range(rng.integers(2, 5)))
    inside = {2} if rng.random() < 0.7 else {1, 2}
    found = is_closed_in_rows(units, x, y, pinned, inside)
    assert found == closed_by_hand(x, y, pinned, inside)


@repeatable
@given(st.integers(0, 10**6))
def test_pairs_of_many_entries_are_those_of_few(seed: int) -> None:
    rng = np.random.default_rng(seed)
    units = Units()
    ids = units.fresh(6)
    x, y = ids[rng.integers(0, 3, (2, 7, 1))], ids[rng.integers(3, 6, (2, 1, 9))]
    few = find_pairs(units, x, y)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairing, "MANY", 1)
        many = find_pairs(units, x, y)
    for a, b in zip(few, many, strict=True):
        np.testing.assert_array_equal(a, b)
