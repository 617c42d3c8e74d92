"""What follows for movable units from the pinned ones they meet."""

from __future__ import annotations

import numpy as np
from layouts.test_pairs import reason

from fxrebasin.layouts.coordinates import along
from fxrebasin.layouts.ids import Ids
from fxrebasin.layouts.layout import Layout
from fxrebasin.layouts.settling import settle
from fxrebasin.layouts.units import Units


def exchangeable(units: Units, ids: Ids) -> list[int]:
    """Per unit, a number; equal where no label tells units apart."""
    keys = []
    for i in ids.tolist():
        key = tuple(int(values[ids == i][0]) for ids, values in units.labels if (ids == i).any())
        keys.append(key)
    seen: dict[tuple[int, ...], int] = {}
    return [seen.setdefault(key, len(seen)) for key in keys]


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
