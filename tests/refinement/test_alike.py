"""Claims on fewer positions fail for the same permutations."""

from __future__ import annotations

import numpy as np
import pytest

from fxrebasin.layouts.ids import Hashes, Ids, mix
from fxrebasin.layouts.units import Claim, Units
from fxrebasin.refinement.alike import without_alike
from fxrebasin.refinement.claims import _Table

N, T, D = 3, 5, 4


def pinned(units: Units, *shape: int) -> Ids:
    ids = units.fresh(int(np.prod(shape)))
    units.pin(ids, "is a place")
    return ids.reshape(shape)


def names(units: Units) -> Hashes:
    return mix(np.arange(units.count), 1)


def rotary(units: Units, table: Ids) -> Claim:
    """Sums over D features of each of N heads, at T positions that are pinned."""
    heads, features = units.fresh(N).reshape(N, 1, 1), units.fresh(N * D).reshape(N, 1, D)
    return Claim((heads, pinned(units, 1, T, 1)), (features, table), (2,), "")


def test_one_position_stands_for_all_that_are_alike() -> None:
    units = Units()
    found = without_alike(units, rotary(units, pinned(units, 1, T, D)), names(units))
    assert [c.shape for c in found.keys] == [(N, 1, 1), (1, 1, 1)]
    assert [c.shape for c in found.values] == [(N, 1, D), (1, 1, D)]


def test_positions_where_other_entries_are_equal_are_looked_at() -> None:
    units = Units()
    table = pinned(units, 1, T, D)
    table[0, 2] = table[0, 2, 0]
    table[0, 4, 1] = table[0, 4, 3]
    found = without_alike(units, rotary(units, table), names(units))
    assert found.values[1][0, :, 0].tolist() == table[0, [0, 2, 4], 0].tolist()


def test_positions_that_keys_do_not_tell_apart_are_all_looked_at() -> None:
    units = Units()
    claim = rotary(units, pinned(units, 1, T, D))
    for keys in ((claim.keys[0],), (claim.keys[0], claim.keys[1][:, [0, 1, 2, 3, 3]])):
        same = Claim(keys, claim.values, claim.summed, "")
        assert without_alike(units, same, names(units)) is same


def test_positions_at_which_units_can_move_are_all_looked_at() -> None:
    units = Units()
    claim = rotary(units, units.fresh(T * D).reshape(1, T, D))
    assert without_alike(units, claim, names(units)) is claim


@pytest.mark.parametrize("seed", range(40))
def test_the_same_permutations_fail(seed: int) -> None:
    rng = np.random.default_rng(seed)
    units = Units()
    places = pinned(units, 6)
    free = units.fresh(6)
    shapes = [(1, 1, 3, 4), (2, 3, 1, 4), (2, 1, 1, 4)]
    tables = [rng.choice(places[: rng.integers(2, 7)], shape) for shape in shapes]
    moving = rng.choice(free, (1, 1, 3, 4))
    keys = (pinned(units, 2, 1, 1, 1), pinned(units, 1, 3, 1, 1), free[:3].reshape(1, 1, 3, 1))
    claim = Claim(keys, (moving, *tables), (3,), "")
    before = names(units)
    fewer = without_alike(units, claim, before)
    whole, part = _Table(claim, before), _Table(fewer, before)
    refuted = 0
    for _ in range(20):
        after = before.copy()
        some = rng.permutation(6)[: rng.integers(2, 7)]
        after[free[some]] = before[free[rng.permutation(some)]]
        failed = bool(whole.failures(after))
        assert failed == bool(part.failures(after))
        refuted += failed
    assert refuted < 20 or seed
