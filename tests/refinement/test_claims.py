"""What was relied on while units were propagated is held against the blocks."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch

from fxrebasin.layouts.coordinates import along, varies_on
from fxrebasin.layouts.facts import Facts
from fxrebasin.layouts.ids import Ids
from fxrebasin.layouts.layout import Layout, Parameter
from fxrebasin.layouts.primitives import reduce
from fxrebasin.layouts.settling import settle
from fxrebasin.layouts.units import Units
from fxrebasin.refinement.build import build_symmetry
from fxrebasin.symmetry.group import Symmetry
from fxrebasin.symmetry.permutation import Permutation

REASON = "would have to move otherwise than its neighbours allow"


def symmetry_of(units: Units, **named: Ids) -> Symmetry:
    """The group of some parameters of one axis, each with the given units."""
    parameters = [
        Parameter((name,), ids.shape, False, (units.fresh(len(ids)),), [ids])
        for name, ids in named.items()
    ]
    return build_symmetry(Facts(units, parameters, nx.MultiGraph())).symmetry


def sizes(symmetry: Symmetry) -> dict[str, int]:
    return {block.name: block.size for block in symmetry}


def test_without_claims_all_units_of_a_parameter_are_exchangeable() -> None:
    units = Units()
    assert sizes(symmetry_of(units, a=units.fresh(4))) == {"a[0]": 4}


def test_units_that_determine_a_position_stay_there() -> None:
    units = Units()
    a, b = units.fresh(3), units.fresh(4)
    units.site = "the_node"
    units.claim((a,), (units.positions(0, 3),))
    assert sizes(symmetry_of(units, a=a, b=b)) == {"b[0]": 4}
    causes = [units.causes[k] for k in units.cause(a).tolist() if k]
    assert causes
    assert {(c.node, c.text) for c in causes} == {("the_node", REASON)}


def test_blocks_that_are_right_are_not_blamed_for_those_that_they_meet() -> None:
    units = Units()
    wrong, right = units.fresh(3), units.fresh(4)
    units.claim((along(wrong, 0, 2), along(right, 1, 2)), (along(units.positions(0, 3), 0, 2),))
    assert sizes(symmetry_of(units, wrong=wrong, right=right)) == {"right[0]": 4}


def test_a_coordinate_is_determined_by_others_that_move_with_it() -> None:
    units = Units()
    a, b = units.fresh(4), units.fresh(2)
    units.contain(a, b.repeat(2))
    units.claim((a,), (b.repeat(2),))
    assert sizes(symmetry_of(units, a=a)) == {"a[0]": 2, "a[0]#2": 2}


def test_a_set_that_is_summed_over_is_kept() -> None:
    units = Units()
    a = units.fresh(6)
    units.claim((), (a[:3],), (0,))
    symmetry = symmetry_of(units, a=a)
    for seed in range(20):
        found = Permutation.random(symmetry, torch.Generator().manual_seed(seed))
        moved = found.permute(symmetry.parameters[0], torch.arange(6))
        assert sorted(moved[:3].tolist()) == [0, 1, 2]


def test_a_whole_set_that_is_summed_over_binds_nothing() -> None:
    units = Units()
    a = units.fresh(6)
    units.claim((), (a,), (0,))
    assert sizes(symmetry_of(units, a=a)) == {"a[0]": 6}


def test_rows_that_are_not_there_are_not_missed() -> None:
    """A table of some of the units says nothing about permutations that lead out of it."""
    units = Units()
    a = units.fresh(3)
    units.claim((a[:1],), (units.positions(0, 1),))
    assert sizes(symmetry_of(units, a=a)) == {"a[0]": 3}


def test_units_in_the_same_order_under_every_parent_are_told_apart_there() -> None:
    """Inside, nothing can be exchanged; the parents still can."""
    units = Units()
    heads, features = units.fresh(3), units.fresh(6).reshape(3, 2)
    units.contain(features.ravel(), heads.repeat(2))
    units.claim((features,), (along(units.positions(0, 2), 1, 2),))
    symmetry = symmetry_of(units, a=features.ravel())
    assert [(b.size, b.parent) for b in symmetry] == [(3, None)]
    assert not units.is_pinned(features).any()


@pytest.mark.parametrize("again", [False, True])
def test_a_claim_is_kept_once_and_only_if_anything_moves(again: bool) -> None:
    units = Units()
    a, places = units.fresh(4), units.positions(0, 4)
    for _ in range(1 + again):
        units.claim((a,), (places,))
        units.claim((places,), (places,))
    assert len(units.claims) == 1
    units.claim((a.reshape(2, 2),), (places.reshape(2, 2),))
    assert len(units.claims) == 2


def test_claims_are_made_where_a_coordinate_is_dropped() -> None:
    units = Units()
    a, b = units.fresh(4), units.fresh(2)
    result = settle(units, Layout((4,), (a, b.repeat(2))))
    assert [c.tolist() for c in result.coordinates] == [a.tolist()]
    (claim,) = units.claims
    assert [k.tolist() for k in claim.keys] == [a.tolist()]
    assert [v.tolist() for v in claim.values] == [b.repeat(2).tolist()]


def test_claims_are_made_where_members_of_a_class_become_one() -> None:
    units = Units()
    a, b = units.fresh(3), units.fresh(3)
    units.equate(a, b)
    settle(units, Layout((6,), (np.concatenate([a, b]),)))
    claimed = {i for claim in units.claims for v in claim.values for i in v.tolist()}
    assert claimed == {*a.tolist(), *b.tolist()}


def test_members_of_both_sides_in_one_coordinate_are_told_apart() -> None:
    """The first unit's left and the second's right are not exchangeable, whatever their classes."""
    units = Units()
    a, b = units.fresh(4), units.fresh(4)
    units.equate(a, b)
    mixed = np.concatenate([a[:2], b[2:]])
    settle(units, Layout((4,), (mixed,)))
    assert sizes(symmetry_of(units, a=a)) == {"a[0]": 2, "a[0]#2": 2}


def test_claims_are_made_of_sums_with_what_is_left_as_keys() -> None:
    units = Units()
    a = units.fresh(6).reshape(2, 3)
    result = reduce(units, Layout((2, 3), (a,)), (1,))
    (claim,) = units.claims
    assert claim.summed == (1,)
    assert [k.ravel().tolist() for k in claim.keys] == [c.tolist() for c in result.coordinates]
    assert claim.values[0].tolist() == a.tolist()


def test_sums_of_other_pairs_are_told_apart_even_if_no_coordinate_is() -> None:
    """Both rows hold 1, 2 and 3, 4; but the one pairs them otherwise than the other."""
    units = Units()
    p = units.positions(0, 2)
    one, other = np.stack([p, p]), np.stack([p, p[::-1]])
    result = reduce(units, Layout((2, 2), (one, other)), (1,))
    assert any(varies_on(c) == (0,) for c in result.coordinates)
    same = reduce(units, Layout((2, 2), (one, one + 0)), (1,))
    assert not any(varies_on(c) for c in same.coordinates)
