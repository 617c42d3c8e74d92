"""What has to hold in every row of a sum."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fxrebasin.layouts.ids import Ids
from fxrebasin.layouts.rows import is_closed_in_rows
from fxrebasin.layouts.units import Units

repeatable = settings(derandomize=True, deadline=None, max_examples=60)


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


def test_pairs_of_pinned_units_may_occur_more_often_than_others() -> None:
    units = Units()
    moving, (place,) = units.fresh(4), units.positions(0, 1)
    x = np.array([*moving[:2], place, place, place])
    y = np.array([*moving[2:], place, place, place])
    assert is_closed_in_rows(units, x, y, [], {0})
    assert is_closed_in_rows(units, x[2:], y[2:], [], {0})
    assert not is_closed_in_rows(units, x[[0, 0, 1]], y[[0, 0, 1]], [], {0})
