"""Parameters: whose units they take, and when they name their own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fxrebasin.layouts.adoption import resolve
from fxrebasin.layouts.coordinates import all_distinct, along
from fxrebasin.layouts.ids import NOWHERE, Ids
from fxrebasin.layouts.layout import UNNAMED, Layout, Parameter
from fxrebasin.layouts.primitives import move
from fxrebasin.layouts.units import Units

repeatable = settings(derandomize=True, deadline=None, max_examples=60)


def parameter(units: Units, *shape: int) -> Parameter:
    return Parameter(("w", "tied"), shape, False, tuple(units.fresh(n) for n in shape))


def lists(coordinates: list[Ids] | tuple[Ids, ...]) -> list[list[int]]:
    return [c.ravel().tolist() for c in coordinates]


def test_a_parameter_has_the_first_of_its_names() -> None:
    assert parameter(Units(), 2).name == "w"


def test_its_layout_names_positions_only() -> None:
    units = Units()
    p = parameter(units, 3, 1, 4)
    x = p.layout()
    assert x.parameter is p
    assert [c.shape for c in x.coordinates] == [(3, 1, 1), (1, 1, 4)]
    assert p.coordinates == []


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_single_number_is_never_unnamed(shape: tuple[int, ...]) -> None:
    units = Units()
    x = parameter(units, *shape).layout()
    assert x.parameter is None
    assert resolve(units, x) is x


def test_where_there_is_nothing_to_adopt_every_axis_has_units_of_its_own() -> None:
    units = Units()
    p = parameter(units, 3, 4)
    x = resolve(units, p.layout())
    assert x.parameter is None
    assert lists(x.coordinates) == [p.positions[0].tolist(), p.positions[1].tolist()]
    assert lists(p.coordinates) == lists(x.coordinates)


def test_resolving_twice_gives_the_same_units() -> None:
    units = Units()
    p = parameter(units, 3, 4)
    a = units.fresh(4)
    first = resolve(units, p.layout(), Layout((3, 4), (along(a, 1, 2),)), (1,))
    other = units.fresh(4)
    again = resolve(units, p.layout(), Layout((3, 4), (along(other, 1, 2),)), (1,))
    assert lists(again.coordinates) == lists(first.coordinates)
    assert a.tolist() in lists(first.coordinates)


def test_layouts_with_units_are_left_alone() -> None:
    units = Units()
    x = Layout((3,), (units.fresh(3),))
    assert resolve(units, x) is x


def test_the_dims_that_are_not_summed_get_fresh_units() -> None:
    units = Units()
    p = parameter(units, 3, 4)
    a = units.fresh(4)
    x = resolve(units, p.layout(), Layout((3, 4), (along(a, 1, 2),)), (1,))
    (other,) = (ids for ids in lists(x.coordinates) if ids != a.tolist())
    assert len(set(other)) == 3
    assert not set(other) & {*a.tolist(), *p.positions[0].tolist()}


def test_a_grouped_weight_adopts_the_input_units_of_its_group() -> None:
    """Weight ``(g o) i`` of a grouped convolution: g=2, o=3, i=2."""
    units = Units()
    p = parameter(units, 6, 2)
    split = p.layout().reshape((2, 3, 2))
    channels = units.fresh(4).reshape(2, 1, 2)
    resolve(units, split, Layout((2, 1, 2), (channels,)), (2,))
    inputs = next(c for c in p.coordinates if set(np.unique(c)) == set(channels.ravel().tolist()))
    expected = np.broadcast_to(channels, (2, 3, 2)).reshape(6, 2)
    assert np.array_equal(np.broadcast_to(inputs, (6, 2)), expected)
    outputs = next(c for c in p.coordinates if c is not inputs)
    assert outputs.shape == (6, 1)
    assert len(np.unique(outputs)) == 6


def test_experts_have_hidden_units_of_their_own() -> None:
    """Weight ``e h i`` of batched experts that share their input ``i``."""
    units = Units()
    p = parameter(units, 2, 5, 3)
    experts, inputs = units.fresh(2), units.fresh(3)
    against = Layout((2, 5, 3), (along(experts, 0, 3), along(inputs, 2, 3)))
    x = resolve(units, p.layout(), against, (2,))
    hidden = next(c for c in x.coordinates if len(np.unique(c)) > 3)
    assert len(np.unique(hidden)) == 10
    assert hidden.shape == (2, 5, 1)


def test_units_that_do_not_tell_entries_apart_are_not_adopted() -> None:
    units = Units()
    p = parameter(units, 4)
    pair = units.fresh(2)
    x = resolve(units, p.layout(), Layout((4,), (pair.repeat(2),)))
    assert lists(x.coordinates) == [p.positions[0].tolist()]


def test_parts_are_named_one_by_one() -> None:
    """A packed weight whose halves meet different units."""
    units = Units()
    p = parameter(units, 6)
    first, second = move(p.layout(), lambda t: t.chunk(2))
    a, b = units.fresh(3), units.fresh(3)
    assert lists(resolve(units, first, Layout((3,), (a,))).coordinates) == [a.tolist()]
    unnamed = p.named()
    assert [c.tolist() for c in unnamed] == [[*a.tolist(), NOWHERE, NOWHERE, NOWHERE]]
    assert lists(resolve(units, second, Layout((3,), (b,))).coordinates) == [b.tolist()]
    whole = resolve(units, p.layout())
    columns = [np.where(c == NOWHERE, 0, c) for c in whole.coordinates]
    assert np.sum(columns, axis=0).tolist() == [*a.tolist(), *b.tolist()]


def test_what_is_left_over_names_itself() -> None:
    units = Units()
    p = parameter(units, 4)
    (half,) = move(p.layout(), lambda t: t[:2])
    a = units.fresh(2)
    resolve(units, half, Layout((2,), (a,)))
    whole = resolve(units, p.layout())
    found = np.stack([np.broadcast_to(c, (4,)) for c in whole.coordinates]).max(axis=0)
    assert {*found[:2].tolist()} == {*a.tolist()}
    rest = next(c for c in p.coordinates if c[0] == UNNAMED)
    assert rest[2:].tolist() == p.positions[0][2:].tolist()


@repeatable
@given(st.data())
def test_a_view_has_the_units_of_the_entries_it_shows(data: st.DataObject) -> None:
    units = Units()
    p = parameter(units, 4, 3)
    order = tuple(data.draw(st.permutations((0, 1))))
    start, step = data.draw(st.integers(0, 2)), data.draw(st.integers(1, 2))
    (view,) = move(p.layout(), lambda t: t[start::step].permute(order))
    whole = resolve(units, p.layout())
    shown = resolve(units, view)
    for c in whole.coordinates:
        expected = np.broadcast_to(c, (4, 3))[start::step].transpose(order)
        if len(np.unique(expected)) > 1:
            full = [np.broadcast_to(s, shown.shape) for s in shown.coordinates]
            assert any(np.array_equal(s, expected) for s in full)


@repeatable
@given(st.data())
def test_telling_apart_is_having_different_tuples(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(2, 4), min_size=1, max_size=2)))
    coordinates = []
    for _ in range(data.draw(st.integers(1, 3))):
        sizes = [n if data.draw(st.booleans()) else 1 for n in shape]
        size = int(np.prod(sizes))
        flat = data.draw(st.lists(st.integers(0, 4), min_size=size, max_size=size))
        coordinates.append(np.array(flat, dtype=np.int64).reshape(sizes))
    dims = tuple(range(len(shape)))
    tuples = zip(*(np.broadcast_to(c, shape).ravel().tolist() for c in coordinates), strict=True)
    assert all_distinct(coordinates, dims) == (len(set(tuples)) == np.prod(shape))


def test_a_parameter_that_is_repeated_for_a_batch_takes_units_where_it_is_once() -> None:
    """Two examples of two groups are one dim; the groups of each meet the same units."""
    units = Units()
    p, met = parameter(units, 2, 3, 4), units.fresh(8).reshape(2, 4)
    repeated = p.layout().reshape((1, 2, 3, 4)).expand((2, 2, 3, 4)).reshape((4, 3, 4))
    places = along(units.positions(0, 2).repeat(2), 0, 3)
    against = Layout((4, 1, 4), (places, np.tile(met, (2, 1))[:, None, :]))
    found = resolve(units, repeated, against, (2,))
    inner, outer = p.coordinates
    assert inner.squeeze(1).tolist() == met.tolist()
    assert outer.shape == (2, 3, 1)
    assert all(c.shape[0] == 4 for c in found.coordinates)
