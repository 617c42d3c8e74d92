"""Refinement: which units are exchangeable, on cases worked out by hand."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fxrebasin as fr
from fxrebasin.layouts.coordinates import along
from fxrebasin.layouts.ids import Ids, mix
from fxrebasin.layouts.layout import Parameter
from fxrebasin.layouts.units import Units
from fxrebasin.refinement.blocks import Classes, RawBlock, UnitClass, ancestor_index, irredundant
from fxrebasin.refinement.colours import refine_units


def on_axes(units: Units, *axes: Ids) -> Parameter:
    """A parameter with these units along its axes."""
    ndim = len(axes)
    shape = tuple(len(ids) for ids in axes)
    p = Parameter(("p",), shape, False, tuple(units.fresh(n) for n in shape))
    p.coordinates = [along(ids, d, ndim) for d, ids in enumerate(axes)]
    return p


def class_of(classes: Classes, units: Units, ids: Ids) -> UnitClass:
    """The one class of some units."""
    (k,) = set(classes.of_unit[units.find(ids)].tolist())
    return classes.classes[k]


def block_of(classes: Classes, units: Units, ids: Ids) -> RawBlock:
    """The one block that says where some units go."""
    ((block, _),) = class_of(classes, units, ids).atoms
    return block


def reason(units: Units, unit: int) -> str:
    return units.causes[int(units.cause(np.array([unit]))[0])].text


def test_the_units_of_one_axis_are_a_block() -> None:
    units = Units()
    a = units.fresh(4)
    classes = refine_units(units, [on_axes(units, a)])
    block = block_of(classes, units, a)
    assert (block.size, block.count, block.parent) == (4, 1, None)


def test_units_on_different_axes_are_different_blocks() -> None:
    units = Units()
    a, b = units.fresh(4), units.fresh(4)
    classes = refine_units(units, [on_axes(units, a, b)])
    assert block_of(classes, units, a) is not block_of(classes, units, b)


def test_equated_units_are_one_block() -> None:
    units = Units()
    a, b = units.fresh(4), units.fresh(4)
    units.equate(a, b[::-1])
    classes = refine_units(units, [on_axes(units, a), on_axes(units, b)])
    assert block_of(classes, units, a) is block_of(classes, units, b)
    assert classes.index[units.find(a)].tolist() == classes.index[units.find(b[::-1])].tolist()


def test_labels_split_a_block() -> None:
    units = Units()
    a = units.fresh(5)
    units.label(a, mix(np.array([0, 0, 1, 1, 1])))
    classes = refine_units(units, [on_axes(units, a)])
    assert block_of(classes, units, a[:2]).size == 2
    assert block_of(classes, units, a[2:]).size == 3


def test_pinned_units_are_in_no_block() -> None:
    units = Units()
    a = units.fresh(4)
    units.pin(a[:1], "is an output")
    classes = refine_units(units, [on_axes(units, a)])
    assert class_of(classes, units, a[:1]).atoms == []
    assert block_of(classes, units, a[1:]).size == 3


def test_how_often_a_unit_occurs_tells_it_apart() -> None:
    units = Units()
    a = units.fresh(3)
    classes = refine_units(units, [on_axes(units, a[[0, 1, 2, 2]])])
    assert block_of(classes, units, a[:2]).size == 2
    assert class_of(classes, units, a[2:]).atoms == []


def test_children_are_a_block_under_every_parent() -> None:
    units = Units()
    heads, inside = units.fresh(2), units.fresh(6)
    units.contain(inside, heads.repeat(3))
    classes = refine_units(units, [on_axes(units, inside)])
    inner = block_of(classes, units, inside)
    assert (inner.size, inner.count) == (3, 2)
    assert inner.parent is block_of(classes, units, heads)
    assert inner.ancestors() == [inner.parent, inner]


def test_parents_of_different_numbers_of_children_are_not_exchangeable() -> None:
    units = Units()
    heads, inside = units.fresh(2), units.fresh(5)
    units.contain(inside, heads[[0, 0, 1, 1, 1]])
    classes = refine_units(units, [on_axes(units, inside)])
    assert class_of(classes, units, heads[:1]).atoms == []
    assert block_of(classes, units, inside[:2]).size == 2
    assert block_of(classes, units, inside[2:]).size == 3


def test_a_difference_travels_from_children_to_parents_and_back() -> None:
    """Three heads of two features, one of which a label singles out."""
    units = Units()
    heads, inside = units.fresh(3), units.fresh(6)
    units.contain(inside, heads.repeat(2))
    units.label(inside, mix(np.array([1, 0, 0, 0, 0, 0])))
    classes = refine_units(units, [on_axes(units, inside)])
    assert block_of(classes, units, heads[1:]).size == 2
    assert class_of(classes, units, heads[:1]).atoms == []
    assert block_of(classes, units, inside[2:]).parent is block_of(classes, units, heads[1:])
    assert class_of(classes, units, inside[1:2]).atoms == []


def test_a_child_that_is_alone_under_its_parent_follows_it() -> None:
    units = Units()
    heads, inside = units.fresh(3), units.fresh(3)
    scale = units.fresh(3)
    units.contain(inside, heads)
    units.contain(scale, heads)
    classes = refine_units(units, [on_axes(units, inside), on_axes(units, scale)])
    assert block_of(classes, units, inside) is block_of(classes, units, heads)
    assert block_of(classes, units, scale) is block_of(classes, units, heads)


def test_a_unit_with_two_independent_parents_is_derived_from_both() -> None:
    """A norm over features that all heads share."""
    units = Units()
    heads, shared, inside = units.fresh(2), units.fresh(3), units.fresh(6)
    units.contain(inside, heads.repeat(3))
    units.contain(inside, np.tile(shared, 2))
    classes = refine_units(units, [on_axes(units, inside), on_axes(units, shared)])
    blocks = [block for block, _ in class_of(classes, units, inside).atoms]
    expected = [block_of(classes, units, ids) for ids in (heads, shared)]
    assert set(blocks) == set(expected)
    assert sorted(b.size for b in blocks) == [2, 3]
    assert all(b.parent is None for b in blocks)


def test_parents_with_the_same_children_are_one_unit() -> None:
    units = Units()
    a, b, inside = units.fresh(2), units.fresh(2), units.fresh(6)
    units.contain(inside, a.repeat(3))
    units.contain(inside, b.repeat(3))
    classes = refine_units(units, [on_axes(units, inside)])
    assert units.find(a).tolist() == units.find(b).tolist()
    assert block_of(classes, units, inside).parent is block_of(classes, units, a)


def test_parents_with_the_same_children_as_pinned_ones_are_pinned() -> None:
    units = Units()
    a, inside = units.fresh(2), units.fresh(6)
    places = units.positions(0, 2)
    units.contain(inside, a.repeat(3))
    units.contain(inside, places.repeat(3))
    refine_units(units, [on_axes(units, inside)])
    assert units.is_pinned(a).all()


def test_groups_of_groups_are_nested() -> None:
    """Halves and quarters of eight channels."""
    units = Units()
    halves, quarters, channels = units.fresh(2), units.fresh(4), units.fresh(8)
    units.contain(channels, halves.repeat(4))
    units.contain(channels, quarters.repeat(2))
    classes = refine_units(units, [on_axes(units, channels)])
    chain = block_of(classes, units, channels).ancestors()
    assert [(b.size, b.count) for b in chain] == [(2, 1), (2, 2), (2, 4)]
    assert chain[1] is block_of(classes, units, quarters)


def test_halves_and_thirds_leave_what_lies_inside_both() -> None:
    """Group norms of two and of three groups over twelve channels: sixes meet fours."""
    units = Units()
    halves, thirds, channels = units.fresh(2), units.fresh(3), units.fresh(12)
    units.contain(channels, halves.repeat(6))
    units.contain(channels, thirds.repeat(4))
    classes = refine_units(units, [on_axes(units, channels)])
    assert sorted(len(c.units) for c in classes.classes if c.atoms and set(c.units) & {*channels})
    inside = {id(b): b for c in classes.classes for b, _ in c.atoms}.values()
    assert sorted((b.size, b.count) for b in inside) == [(2, 1), (2, 2), (4, 2)]
    assert not units.is_pinned(channels).any()


def test_what_blocks_cannot_express_is_pinned_with_a_reason() -> None:
    """The edges between four corners: moving corners moves edges, but no block says so."""
    units = Units()
    corners, edges = units.fresh(4), units.fresh(6)
    ends = np.array(list(combinations(range(4), 2)))
    units.contain(edges.repeat(2), corners[ends.ravel()])
    refine_units(units, [on_axes(units, edges)])
    assert units.is_pinned(edges).all()
    assert reason(units, int(edges[0])) == "is exchangeable in a way that blocks cannot express"


class Ring(nn.Module):
    """Two features for every channel, each of which meets the next channel as well."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(3, 6), nn.Linear(12, 2)
        self.scale = nn.Parameter(torch.ones(12))

    def forward(self, x: Tensor) -> Tensor:
        here = self.into(x).tanh()
        ahead = here.roll(1, 1).square()
        scaled = [h.repeat_interleave(2, 1) * self.scale for h in (here, ahead)]
        return self.out(scaled[0] + scaled[1])


def test_parents_in_a_circle_do_not_move_and_do_not_hang() -> None:
    symmetry = fr.analyze(Ring(), args=(torch.zeros(2, 3),))
    assert [(b.size, b.count) for b in symmetry] == [(2, 1)] * 6
    assert {axis for b in symmetry for axis in b.axes} == {("scale", 0), ("out.weight", 1)}


def test_an_atom_that_others_imply_is_dropped() -> None:
    outer = RawBlock(2, 1, None)
    inner = RawBlock(3, 2, outer)
    other = RawBlock(6, 1, None)
    index = np.arange(6)
    kept = irredundant([(outer, index // 3), (inner, index), (inner, index), (other, index)])
    assert [block for block, _ in kept] == [inner, other]
    crossed = irredundant([(outer, index % 2), (inner, index)])
    assert [block for block, _ in crossed] == [outer, inner]


@pytest.mark.parametrize(("levels", "expected"), [(0, [0, 5, 11]), (1, [0, 1, 3]), (2, [0, 0, 1])])
def test_the_unit_above(levels: int, expected: list[int]) -> None:
    outer = RawBlock(2, 1, None)
    middle = RawBlock(2, 2, outer)
    inner = RawBlock(3, 4, middle)
    ancestor = [inner, middle, outer][levels]
    assert ancestor_index(inner, np.array([0, 5, 11]), ancestor).tolist() == expected
