"""The primitives: entries meet, are summed, are moved; the rest is pinned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fxrebasin.layouts.coordinates import along
from fxrebasin.layouts.ids import Ids
from fxrebasin.layouts.layout import Layout, Parameter
from fxrebasin.layouts.primitives import (
    _drop_dims,
    merge,
    merge_entries,
    move,
    pin_units,
    reduce,
)
from fxrebasin.layouts.units import Units

repeatable = settings(derandomize=True, deadline=None, max_examples=60)


def parameter(units: Units, *shape: int) -> Parameter:
    return Parameter(("p",), shape, False, tuple(units.fresh(n) for n in shape))


def parents_of(units: Units, ids: Ids) -> list[set[int]]:
    found: dict[int, set[int]] = {}
    for child, parent, _ in units.parents:
        for c, p in zip(child.tolist(), parent.tolist(), strict=True):
            found.setdefault(c, set()).add(p)
    return [found.get(i, set()) for i in ids.ravel().tolist()]


def reason(units: Units, unit: int) -> str:
    return str(units.causes[int(units.cause(np.array([unit]))[0])])


# merge


def test_merging_broadcasts_and_equates() -> None:
    units = Units()
    a, b = units.fresh(4), units.fresh(4)
    both = merge(
        units, Layout((2, 1, 4), (along(a, 2, 3),)), Layout((3, 1), ()), Layout((4,), (b,))
    )
    assert both.shape == (2, 3, 4)
    assert units.find(b).tolist() == a.tolist()
    assert [c.shape for c in both.coordinates] == [(1, 1, 4)]


def test_merging_one_tensor_changes_nothing() -> None:
    units = Units()
    x = Layout((3,), (units.fresh(3),))
    assert merge(units, x).coordinates == x.coordinates


def test_a_scalar_meets_everything_and_ties_nothing() -> None:
    units = Units()
    a = units.fresh(4)
    merged = merge(units, Layout((4,), (a,)), Layout(()))
    assert merged.coordinates[0].tolist() == a.tolist()
    assert not units.parents and not units.labels


def test_a_parameter_adopts_what_it_meets() -> None:
    units = Units()
    a, p = units.fresh(4), parameter(units, 4)
    merged = merge(units, Layout((2, 4), (along(a, 1, 2),)), p.layout())
    assert merged.parameter is None
    assert [c.tolist() for c in p.coordinates] == [a.tolist()]


def test_a_weight_adopts_what_is_summed_and_names_the_rest() -> None:
    """``x @ w.T`` with ``x`` of shape (2, 4) and ``w`` of shape (3, 4)."""
    units = Units()
    a, w = units.fresh(4), parameter(units, 3, 4)
    x = Layout((2, 1, 4), (along(a, 2, 3),))
    merged = merge(units, x, w.layout().expand((1, 3, 4)), reduced=(2,))
    out = reduce(units, merged, (2,))
    assert out.shape == (2, 3)
    (features,) = out.coordinates
    assert features.shape == (1, 3)
    named = {tuple(c.shape): c.ravel().tolist() for c in w.coordinates}
    assert named == {(1, 4): a.tolist(), (3, 1): features.ravel().tolist()}


# reduce


def test_what_is_summed_over_vanishes() -> None:
    units = Units()
    a, b = units.fresh(3), units.fresh(4)
    x = Layout((3, 4), (along(a, 0, 2), along(b, 1, 2)))
    out = reduce(units, x, (1,))
    assert out.shape == (3,)
    assert [c.tolist() for c in out.coordinates] == [a.tolist()]
    kept = reduce(units, x, (-1,), keepdim=True)
    assert kept.shape == (3, 1)
    assert not units.is_pinned(np.concatenate([a, b])).any()
    assert not units.parents


def test_rows_of_units_that_are_summed_have_a_parent_each() -> None:
    """A norm over the features of each of two heads."""
    units = Units()
    a = units.fresh(6)
    out = reduce(units, Layout((2, 3), (a.reshape(2, 3),)), (1,))
    (heads,) = out.coordinates
    assert heads.shape == (2,)
    assert heads[0] != heads[1]
    assert parents_of(units, a) == [{int(heads[0])}] * 3 + [{int(heads[1])}] * 3
    assert not units.is_pinned(heads).any()


def test_equal_rows_have_the_same_parent() -> None:
    units = Units()
    a = units.fresh(3)
    out = reduce(units, Layout((2, 3), (np.stack([a, a[::-1]]),)), (1,))
    assert all((c == c.flat[0]).all() for c in out.coordinates)


def test_windows_that_overlap_pin_what_they_sum() -> None:
    units = Units()
    a = units.fresh(3)
    windows = np.stack([a[:2], a[1:]])
    reduce(units, Layout((2, 2), (windows,)), (1,))
    assert units.is_pinned(a).all()
    assert reason(units, int(a[0])) == "is summed over in windows that overlap"


def test_how_often_a_unit_is_summed_tells_it_apart() -> None:
    units = Units()
    a = units.fresh(3)
    reduce(units, Layout((5,), (a[[0, 0, 1, 1, 2]],)), (0,))
    ((ids, values),) = units.labels
    label = dict(zip(ids.tolist(), values.tolist(), strict=True))
    assert label[int(a[0])] == label[int(a[1])] != label[int(a[2])]


def test_how_often_a_row_holds_a_unit_tells_it_apart() -> None:
    units = Units()
    a = units.fresh(4)
    reduce(units, Layout((2, 3), (a[[[0, 0, 1], [2, 2, 3]]],)), (1,))
    label: dict[int, list[int]] = {}
    for ids, values in units.labels:
        for i, v in zip(ids.tolist(), values.tolist(), strict=True):
            label.setdefault(i, []).append(v)
    twice, once, also_twice, also_once = (label[i] for i in a.tolist())
    assert twice == also_twice != once == also_once


def test_pinned_units_that_are_summed_leave_pinned_ones() -> None:
    units = Units()
    places = np.stack([units.positions(0, 4)[:2], units.positions(0, 4)[2:]])
    out = reduce(units, Layout((2, 2), (places,)), (1,))
    (left,) = out.coordinates
    assert units.is_pinned(left).all()
    assert left[0] != left[1]


def test_summing_a_scalar() -> None:
    units = Units()
    assert reduce(units, Layout(()), ()).shape == ()


def test_dropping_dims() -> None:
    x = Layout((1, 3, 1), (np.arange(3).reshape(1, 3, 1),))
    assert _drop_dims(x, {0, 2}).coordinates[0].shape == (3,)


# move

MOVEMENTS: dict[str, Callable[[torch.Tensor], torch.Tensor | Sequence[torch.Tensor]]] = {
    "transpose": lambda t: t.transpose(0, -1),
    "select": lambda t: t.select(0, t.shape[0] - 1),
    "slice": lambda t: t[..., ::2],
    "unsqueeze": lambda t: t.unsqueeze(1),
    "chunk": lambda t: t.chunk(2, 0),
    "unbind": lambda t: t.unbind(0),
    "unfold": lambda t: t.unfold(0, min(2, t.shape[0]), 1),
    "expand": lambda t: t.unsqueeze(0).expand(3, *t.shape),
    "squeeze": lambda t: t.squeeze(),
    "flip": lambda t: t.flip(0),
    "diagonal": lambda t: t.unsqueeze(0).diagonal(0, 0, 1),
    "repeat_interleave": lambda t: t.repeat_interleave(2, 0),
}


@pytest.mark.parametrize("name", MOVEMENTS)
@repeatable
@given(st.data())
def test_moving_a_layout_moves_the_full_arrays(name: str, data: st.DataObject) -> None:
    movement = MOVEMENTS[name]
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    sizes = [n if data.draw(st.booleans()) else 1 for n in shape]
    flat = data.draw(st.lists(st.integers(0, 9), min_size=prod(sizes), max_size=prod(sizes)))
    c = np.array(flat, dtype=np.int64).reshape(sizes)
    full = movement(torch.from_numpy(np.broadcast_to(c, shape).copy()))
    expected = [full] if isinstance(full, torch.Tensor) else list(full)
    found = move(Layout(shape, (c,)), movement)
    assert [x.shape for x in found] == [tuple(t.shape) for t in expected]
    for x, t in zip(found, expected, strict=True):
        assert np.array_equal(np.broadcast_to(x.coordinates[0], x.shape), t.numpy())


def test_moving_does_not_expand_what_does_not_vary() -> None:
    c = along(np.arange(3), 1, 3)
    (moved,) = move(Layout((1000, 3, 1000), (c,)), lambda t: t.transpose(1, 2))
    assert moved.coordinates[0].shape == (1, 1, 3)


def test_moving_keeps_a_parameter_unnamed() -> None:
    units = Units()
    p = parameter(units, 2, 3)
    (moved,) = move(p.layout(), lambda t: t.t())
    assert moved.parameter is p


# pin


def test_pinning_all_or_some_dims() -> None:
    units = Units()
    a, b = units.fresh(2), units.fresh(3)
    x = Layout((2, 3), (along(a, 0, 2), along(b, 1, 2)))
    pin_units(units, x, "because of dim 1", (1,))
    assert not units.is_pinned(a).any()
    assert units.is_pinned(b).all()
    pin_units(units, x, "because of everything")
    assert units.is_pinned(a).all()
    assert (reason(units, int(a[0])), reason(units, int(b[0]))) == (
        "because of everything",
        "because of dim 1",
    )


def entries_of_one(units: Units, *parts: Ids) -> list[Layout]:
    return [Layout((2, len(p)), (along(p, 1, 2),), origin="the same tensor") for p in parts]


def test_entries_of_one_tensor_that_meet_in_any_order_are_pairs() -> None:
    units = Units()
    ids = units.fresh(6)
    met = merge_entries(units, *entries_of_one(units, ids[:3], ids[3:]))
    assert met is not None
    assert met.shape == (2, 3)
    pairs = [{p} for p in met.coordinates[0].ravel().tolist()]
    assert parents_of(units, ids) == [*pairs, *pairs]
    assert units.find(ids).tolist() == ids.tolist()


@pytest.mark.parametrize("other", [[0, 1, 2], [1, 2, 3], [1, 2, 0]])
def test_entries_that_are_no_pairs_meet_as_others_do(other: list[int]) -> None:
    units = Units()
    ids = units.fresh(6)
    assert merge_entries(units, *entries_of_one(units, ids[:3], ids[other])) is None


def test_entries_of_which_some_are_pinned_meet_as_others_do() -> None:
    units = Units()
    ids = units.fresh(6)
    units.pin(ids[:1], "stays")
    assert merge_entries(units, *entries_of_one(units, ids[:3], ids[3:])) is None


def test_entries_of_two_tensors_meet_as_others_do() -> None:
    units = Units()
    x, y = (Layout((3,), (units.fresh(3),)) for _ in range(2))
    assert merge_entries(units, x, y) is None
