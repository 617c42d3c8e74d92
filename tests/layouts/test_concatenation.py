"""What is joined, and what of it can be told apart."""

from __future__ import annotations

import numpy as np

from fxrebasin.layouts.concatenation import concatenate
from fxrebasin.layouts.coordinates import along, positional, varies_on
from fxrebasin.layouts.ids import NOWHERE
from fxrebasin.layouts.layout import Layout, Parameter
from fxrebasin.layouts.units import Units


def test_tokens_of_a_parameter_are_not_put_together_with_features() -> None:
    units = Units()
    learned = Parameter(("p",), (1, 3, 4), False, tuple(units.fresh(n) for n in (1, 3, 4)))
    features = units.fresh(4)
    x = Layout((2, 5, 4), (along(features, 2, 3), *positional(units, (2, 5, 4), (0, 1))))
    joined = concatenate(units, [learned.layout().expand((2, 3, 4)), x], 1)
    assert joined.shape == (2, 8, 4)
    by_dims = {varies_on(c): c for c in joined.coordinates}
    assert set(by_dims) == {(1,), (1, 2), (0, 1)}
    assert by_dims[1,].ravel()[:3].tolist() == learned.positions[1].tolist()
    assert by_dims[1, 2][0, 0].tolist() == learned.positions[2].tolist()
    assert by_dims[1, 2][0, 7].tolist() == features.tolist()
    assert (by_dims[0, 1][:, :3] == NOWHERE).all()


def test_units_along_the_joined_axis_go_first_and_those_of_a_whole_operand_after() -> None:
    units = Units()
    first, second, whole = units.fresh(2), units.fresh(3), units.fresh(1)
    x = Layout((2,), (first,))
    y = Layout((3,), (whole, second))
    joined = concatenate(units, [x, y], 0)
    assert joined.coordinates[0].tolist() == [*first, *second]
    assert joined.coordinates[1].tolist() == [NOWHERE, NOWHERE, *whole.repeat(3)]


def test_entries_of_one_tensor_are_not_labelled_by_operand() -> None:
    units = Units()
    ids = units.fresh(6)
    parts = [Layout((3,), (part,), origin="the same") for part in (ids[3:], ids[:3])]
    joined = concatenate(units, parts, 0)
    assert [c.tolist() for c in joined.coordinates] == [[*ids[3:], *ids[:3]]]
    assert not units.labels
    assert not units.claims


def test_an_entry_of_one_tensor_that_is_there_twice_is_told_apart() -> None:
    units = Units()
    ids = units.fresh(6)
    parts = [Layout((n,), (ids[:n],), origin="the same") for n in (3, 6)]
    joined = concatenate(units, parts, 0)
    entries = np.stack([np.broadcast_to(c, (9,)) for c in joined.coordinates])
    assert len(np.unique(entries, axis=1).T) == 9
