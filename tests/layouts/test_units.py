"""Units: what is equal, what contains what, what is exchangeable, what is pinned and why."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fxrebasin.layouts.causes import Cause, PinKind
from fxrebasin.layouts.ids import NOWHERE, Ids, mix, sorted_set
from fxrebasin.layouts.units import Units

repeatable = settings(derandomize=True, deadline=None, max_examples=60)


def test_fresh_units_are_new_movable_and_stand_for_themselves() -> None:
    units = Units()
    a, b = units.fresh(3), units.fresh(2)
    assert len({*a.tolist(), *b.tolist(), NOWHERE}) == 6
    assert not units.is_pinned(np.concatenate([a, b])).any()
    assert units.find(a).tolist() == a.tolist()
    assert units.fresh(0).size == 0


def test_nothing_is_known_to_change_when_the_tables_grow() -> None:
    units = Units()
    a, b = units.fresh(4), units.fresh(4)
    units.equate(a, b)
    units.pin(a[:1], "first")
    members = units.member(b).copy()
    many = units.fresh(5000)
    assert units.find(many).tolist() == many.tolist()
    assert not units.is_pinned(many).any()
    assert np.unique(units.member(many)).tolist() == [0]
    assert units.find(b).tolist() == a.tolist()
    assert units.member(b).tolist() == members.tolist()
    assert units.is_pinned(b).tolist() == [True, False, False, False]


@repeatable
@given(st.data())
def test_equating_families_is_union_find(data: st.DataObject) -> None:
    """Families are joined into a tree, each time by some one-to-one map."""
    n, families = data.draw(st.integers(1, 5)), data.draw(st.integers(2, 6))
    units = Units()
    ids = [units.fresh(n) for _ in range(families)]
    classes = {int(u): {int(u)} for family in ids for u in family}
    for k in range(1, families):
        other = data.draw(st.integers(0, k - 1))
        order = np.array(data.draw(st.permutations(range(n))))
        a, b = ids[other], ids[k][order]
        if data.draw(st.booleans()):
            a, b = b, a
        units.equate(a, b)
        for x, y in zip(a.tolist(), b.tolist(), strict=True):
            joined = classes[x] | classes[y]
            for u in joined:
                classes[u] = joined
    everything = np.concatenate(ids)
    found = units.find(everything)
    for u, root in zip(everything.tolist(), found.tolist(), strict=True):
        assert root == min(classes[u])
    assert units.find(found).tolist() == found.tolist()


def test_equating_what_is_equal_already_changes_nothing() -> None:
    units = Units()
    a, b = units.fresh(3), units.fresh(3)
    units.equate(a, b)
    version = units.version
    units.equate(b, a)
    units.equate(a, a)
    assert units.version == version
    assert not units.parents


def test_members_of_a_class_are_told_apart_alike_in_every_class() -> None:
    units = Units()
    a, b, c = units.fresh(3), units.fresh(3), units.fresh(3)
    units.equate(a, b)
    units.equate(b, c)
    members = [units.member(ids) for ids in (a, b, c)]
    assert all(len(set(m.tolist())) == 1 for m in members)
    assert len({int(m[0]) for m in members}) == 3
    copies = units.copies(np.stack([a, b, c]))
    assert copies.shape == (3, 3)
    assert units.is_pinned(copies).all()
    assert all(len(set(row.tolist())) == 1 for row in copies)
    assert len(set(copies[:, 0].tolist())) == 3
    assert units.copies(b).tolist() == copies[1].tolist()


def test_a_class_is_pinned_as_a_whole_and_remembers_the_first_reason() -> None:
    units = Units()
    a, b = units.fresh(3), units.fresh(3)
    units.equate(a, b)
    units.site = "conv1"
    units.pin(b[1:2], "is an output")
    units.site = "conv2"
    units.pin(a, "meets something")
    assert units.is_pinned(np.stack([a, b])).all()
    causes = [str(units.causes[k]) for k in units.cause(a)]
    assert causes[1] == "is an output (at conv1)"
    assert causes[0] == causes[2] == "meets something (at conv2)"


@pytest.mark.parametrize("swap", [False, True])
def test_what_is_equated_with_a_pinned_unit_is_pinned(swap: bool) -> None:
    units = Units()
    a, b = units.fresh(2), units.fresh(2)
    units.pin(b[:1], "why not")
    units.equate(*((b, a) if swap else (a, b)))
    assert units.is_pinned(a).tolist() == [True, False]
    assert str(units.causes[int(units.cause(a)[0])]) == "why not"


def test_a_cause_names_the_node_if_there_is_one() -> None:
    assert str(Cause(PinKind.RULE, "because", "aten.add", "add_1")) == "because (at add_1)"
    assert str(Cause(PinKind.RULE, "because")) == "because"


def test_positions_are_pinned_and_the_same_for_every_tensor() -> None:
    units = Units()
    three, five = units.positions(0, 3), units.positions(0, 5)
    other = units.positions(1, 5)
    assert five[:3].tolist() == three.tolist()
    assert len({*five.tolist(), *other.tolist()}) == 10
    assert units.is_pinned(five).all() and units.is_pinned(other).all()
    assert units.causes[int(units.cause(other)[0])].text


def test_nowhere_is_pinned_from_the_start() -> None:
    assert Units().is_pinned(np.array([NOWHERE])).all()


def test_containment_and_labels_are_recorded_once() -> None:
    units = Units()
    children, parents = units.fresh(4), units.fresh(2).repeat(2)
    units.contain(children, parents)
    units.contain(children, parents)
    assert len(units.parents) == 1
    child, parent, _ = units.parents[0]
    assert child.tolist() == children.tolist()
    assert parent.tolist() == parents.tolist()
    values = mix(np.array([0, 0, 1, 1]))
    units.label(children, values)
    units.label(children, values)
    ((labelled, given_values),) = units.labels
    assert labelled.tolist() == children.tolist()
    assert given_values[0] == given_values[1] != given_values[2]


def test_equal_labels_of_different_facts_differ() -> None:
    units = Units()
    a, b = units.fresh(2), units.fresh(2)
    for ids in (a, b):
        units.label(ids, mix(np.zeros(2)))
    assert units.labels[0][1][0] != units.labels[1][1][0]


def components(units: Units, ids: Ids) -> set[frozenset[int]]:
    """The sets of ids with a common parent, by the only containment that was recorded."""
    ((child, parent, _),) = units.parents
    groups: dict[int, set[int]] = {}
    for c, p in zip(child.tolist(), parent.tolist(), strict=True):
        groups.setdefault(p, set()).add(c - int(ids[0]))
    return {frozenset(g) for g in groups.values()}


def places(units: Units, ids: Ids) -> list[int]:
    """Per unit, a number that is equal for exchangeable ones."""
    ((labelled, values),) = units.labels
    of = dict(zip(labelled.tolist(), values.tolist(), strict=True))
    seen: dict[int, int] = {}
    return [seen.setdefault(of[i], len(seen)) for i in ids.tolist() if i in of]


def test_a_flip_leaves_pairs_that_can_be_exchanged_as_a_whole() -> None:
    units = Units()
    a = units.fresh(6)
    units.equate(a, a[::-1].copy())
    assert units.find(a).tolist() == a.tolist()
    assert not units.is_pinned(a).any()
    assert components(units, a) == {frozenset({0, 5}), frozenset({1, 4}), frozenset({2, 3})}
    assert places(units, a) == [0, 0, 0, 1, 1, 1]


def test_a_shift_leaves_one_path_in_which_every_place_is_another() -> None:
    units = Units()
    a = units.fresh(4)
    units.equate(a[1:], a[:-1])
    assert components(units, a) == {frozenset({0, 1, 2, 3})}
    assert sorted(places(units, a)) == [0, 1, 2, 3]


@repeatable
@given(st.permutations(range(7)))
def test_a_unit_that_meets_others_in_another_order_follows_its_cycle(order: list[int]) -> None:
    units = Units()
    a = units.fresh(7)
    units.equate(a, a[np.array(order)])
    cycles: set[frozenset[int]] = set()
    for start in range(7):
        cycle, k = {start}, order[start]
        while k != start:
            cycle.add(k)
            k = order[k]
        if len(cycle) > 1:
            cycles.add(frozenset(cycle))
    if cycles:
        assert components(units, a) == cycles
        moved = [k for k in range(7) if order[k] != k]
        place = dict(zip(moved, places(units, a), strict=True))
        for cycle_ in cycles:
            assert len({place[k] for k in cycle_}) == len(cycle_)
        same = [c for c in cycles if len(c) == 2]
        assert len({tuple(sorted(place[k] for k in c)) for c in same}) <= 1
    else:
        assert not units.parents


@repeatable
@given(st.lists(st.integers(0, 50), min_size=0, max_size=40))
def test_distinct_counts_ids(values: list[int]) -> None:
    units = Units()
    units.fresh(51)
    ids = np.array(values, dtype=np.int64)
    assert units.count_distinct(ids) == len(set(values))


@repeatable
@given(st.sets(st.integers(0, 2**62), min_size=2, max_size=50), st.integers(0, 100))
def test_mix_is_one_to_one_and_depends_on_the_salt(values: set[int], salt: int) -> None:
    array = np.array(sorted(values))
    mixed = mix(array, salt)
    assert len(set(mixed.tolist())) == len(values)
    assert mixed.tolist() == mix(array, salt).tolist()
    assert (mixed != mix(array, salt + 1)).all()


@repeatable
@given(st.lists(st.lists(st.integers(-5, 5), min_size=3, max_size=3), min_size=1))
def test_sorted_set_is_a_sorted_set(values: list[list[int]]) -> None:
    assert sorted_set(np.array(values)).tolist() == sorted({v for row in values for v in row})


def test_paths_and_cycles_of_one_length_are_told_apart() -> None:
    """0 and 1 meet each other; 2 meets 3, which meets nothing."""
    units = Units()
    a = units.fresh(4)
    units.equate(a[[0, 1, 2]], a[[1, 0, 3]])
    assert components(units, a) == {frozenset({0, 1}), frozenset({2, 3})}
    assert len(set(places(units, a))) == 4
