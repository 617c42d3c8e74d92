"""What follows from which units occur together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fxrebasin.layouts import pairs as pairing
from fxrebasin.layouts.ids import Ids
from fxrebasin.layouts.pairs import find_pairs, nest_pairs, relate_pairs
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


@repeatable
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=40))
def test_pairs_are_those_that_occur(given_pairs: list[tuple[int, int]]) -> None:
    units = Units()
    units.fresh(10)
    x, y = (np.array(side) for side in zip(*given_pairs, strict=True))
    a, b = find_pairs(units, x, y)
    assert list(zip(a.tolist(), b.tolist(), strict=True)) == sorted(set(given_pairs))


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
