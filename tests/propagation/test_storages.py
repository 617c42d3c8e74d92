"""Storages: views show, and in-place writes change, what full-array indexing says they do."""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from fxrebasin.layouts.coordinates import along
from fxrebasin.layouts.ids import Ids
from fxrebasin.layouts.layout import Layout
from fxrebasin.layouts.units import Units
from fxrebasin.propagation.storages import Storages, axis_indices, gather, place_of, scatter

repeatable = settings(derandomize=True, deadline=None, max_examples=150)


@st.composite
def roots_and_views(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """A tensor that numbers its own entries, and a view of it."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    root = torch.arange(prod(shape)).reshape(shape)
    if draw(st.booleans()):
        root = root.permute(draw(st.permutations(range(root.ndim))))
    view = root
    for d in range(root.ndim):
        n = view.shape[d]
        start = draw(st.integers(0, n - 1))
        step = draw(st.integers(1, 2))
        view = view.narrow(d, start, draw(st.integers(1, n - start)))
        index = [slice(None)] * view.ndim
        index[d] = slice(None, None, step)
        view = view[tuple(index)]
    if draw(st.booleans()):
        view = view.permute(draw(st.permutations(range(view.ndim))))
    kind = draw(st.integers(0, 4))
    if kind == 0:
        view = view.select(draw(st.integers(0, view.ndim - 1)), 0)
    elif kind == 1:
        view = view.unsqueeze(draw(st.integers(0, view.ndim)))
    elif kind == 2 and view.is_contiguous():
        view = view.view(-1)
    elif kind == 3:
        view = view.unsqueeze(0).expand(2, *view.shape)
    return root, view


@st.composite
def layouts(draw: st.DrawFn, units: Units, shape: tuple[int, ...], most: int) -> Layout:
    found = []
    for _ in range(draw(st.integers(0, most))):
        sizes = [n if draw(st.booleans()) else 1 for n in shape]
        ids = units.fresh(draw(st.integers(1, 4)))
        flat = st.lists(st.integers(0, len(ids) - 1), min_size=prod(sizes), max_size=prod(sizes))
        found.append(ids[np.array(draw(flat), dtype=np.int64)].reshape(sizes))
    return Layout(shape, tuple(found))


def rows(layout: Layout) -> list[tuple[int, ...]]:
    if not layout.coordinates:
        return [()] * prod(layout.shape)
    full = [np.broadcast_to(c, layout.shape).ravel().tolist() for c in layout.coordinates]
    return list(zip(*full, strict=True))


def full_index(index: list[Ids], shape: tuple[int, ...]) -> tuple[Ids, ...]:
    return tuple(np.broadcast_to(i, shape) for i in index)


@repeatable
@given(roots_and_views())
def test_every_entry_of_a_view_is_found_on_the_axes_of_its_root(
    case: tuple[Tensor, Tensor],
) -> None:
    root, view = case
    index = axis_indices(place_of(root), place_of(view))
    if index is None:  # only where two axes of the root were joined into one
        assert view.dim() < root.dim()
        return
    found = root.numpy()[full_index(index, tuple(view.shape))]
    assert np.array_equal(found, view.numpy())


def test_views_that_do_not_lie_along_the_axes_are_not_followed() -> None:
    root = torch.arange(12).reshape(3, 4)
    for view in (root.view(12), root.diagonal(), root.view(2, 6)):
        assert axis_indices(place_of(root), place_of(view)) is None


def test_what_lies_before_its_root_is_not_followed() -> None:
    whole = torch.arange(6)
    assert axis_indices(place_of(whole[2:]), place_of(whole)) is None


@repeatable
@given(st.data())
def test_gathering_indexes_the_full_arrays(data: st.DataObject) -> None:
    root, view = data.draw(roots_and_views())
    index = axis_indices(place_of(root), place_of(view))
    assume(index is not None)
    assert index is not None
    layout = data.draw(layouts(Units(), tuple(root.shape), 2))
    found = gather(layout, index, tuple(view.shape))
    where = full_index(index, tuple(view.shape))
    for before, after in zip(layout.coordinates, found.coordinates, strict=True):
        expected = np.broadcast_to(before, layout.shape)[where]
        assert np.array_equal(np.broadcast_to(after, found.shape), expected)


@repeatable
@given(st.data())
def test_scattering_tells_entries_apart_as_assignment_to_the_full_arrays(
    data: st.DataObject,
) -> None:
    """Where two entries look alike afterwards, both are old and did, or both are new and do."""
    root, view = data.draw(roots_and_views())
    assume(view.numel() == len(np.unique(view.numpy())))  # torch refuses other writes
    index = axis_indices(place_of(root), place_of(view))
    assume(index is not None)
    assert index is not None
    units = Units()
    before = data.draw(layouts(units, tuple(root.shape), 2))
    written = data.draw(layouts(units, tuple(view.shape), 2))
    after = rows(scatter(units, before, index, written))
    truth: list[tuple[str, tuple[int, ...]]] = [("old", row) for row in rows(before)]
    entry = np.arange(root.numel()).reshape(root.shape)
    places = entry[full_index(index, tuple(view.shape))].ravel().tolist()
    for place, row in zip(places, rows(written), strict=True):
        truth[place] = ("new", row)
    meaning: dict[tuple[int, ...], tuple[str, tuple[int, ...]]] = {}
    for seen, true in zip(after, truth, strict=True):
        assert meaning.setdefault(seen, true) == true


def test_a_tensor_is_known_by_its_place_not_by_its_object() -> None:
    storages = Storages(Units())
    x = torch.zeros(2, 3)
    layout = Layout((2, 3))
    storages.put(x, layout)
    assert storages.get(x.view(2, 3)) is layout
    assert storages.get(torch.zeros(2, 3)) is None
    assert storages.get(x.detach()) is layout


def test_a_view_of_a_known_tensor_has_its_part_of_the_layout() -> None:
    units = Units()
    storages = Storages(units)
    a = units.fresh(3)
    x = torch.zeros(2, 3)
    storages.put(x, Layout((2, 3), (along(a, 1, 2),)))
    found = storages.get(x[:, 1:].t())
    assert found is not None
    assert found.shape == (2, 2)
    assert found.coordinates[0].tolist() == [[a[1]], [a[2]]]


def test_a_write_to_all_entries_replaces_the_layout_of_every_view() -> None:
    units = Units()
    storages = Storages(units)
    old, new = units.fresh(3), units.fresh(3)
    x = torch.zeros(3)
    before = Layout((3,), (old,))
    storages.put(x, before)
    storages.put(x[1:], Layout((2,), (old[1:],)))
    assert storages.write(x, Layout((3,), (new,)), before)
    for view, ids in ((x, new), (x[1:], new[1:])):
        found = storages.get(view)
        assert found is not None
        assert [c.tolist() for c in found.coordinates] == [ids.tolist()]


def test_a_write_through_a_view_changes_the_root() -> None:
    units = Units()
    storages = Storages(units)
    old, new = units.fresh(4), units.fresh(2)
    x = torch.zeros(4)
    before = Layout((4,), (old,))
    storages.put(x, before)
    assert storages.write(x[::2], Layout((2,), (new,)), before)
    found = storages.get(x)
    assert found is not None
    assert found.coordinates[0].tolist() == [new[0], old[1], new[1], old[3]]


def test_units_that_were_written_are_not_exchangeable_with_the_others() -> None:
    units = Units()
    old, new = units.fresh(4), units.fresh(2)
    scatter(units, Layout((4,), (old,)), [np.array([0, 1])], Layout((2,), (new,)))
    labels = {i: v for ids, values in units.labels for i, v in zip(ids, values, strict=True)}
    assert labels[new[0]] == labels[new[1]] != labels[old[2]] == labels[old[3]]


def test_a_write_that_cannot_be_followed_is_refused() -> None:
    units = Units()
    storages = Storages(units)
    x = torch.zeros(3, 2)
    before = Layout((3, 2))
    storages.put(x, before)
    shifted = torch.as_strided(x, (2, 2), (1, 3), 0)
    assert not storages.write(shifted, Layout((2, 2)), before)


def test_the_root_is_the_tensor_as_it_was_first_seen() -> None:
    storages = Storages(Units())
    x = torch.arange(6).reshape(2, 3)
    storages.see(x)
    root = storages.root(x[1:, :2])
    assert torch.equal(root, x)
    assert root.data_ptr() == x.data_ptr()


def test_a_storage_that_is_gone_is_not_mistaken_for_a_new_one() -> None:
    storages = Storages(Units())
    for k in range(200):
        x = torch.zeros(4 + k % 3)
        assert storages.get(x) is None
        storages.put(x, Layout(tuple(x.shape)))
        del x
