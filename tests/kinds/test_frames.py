"""Frames: ties with parity, caps, and equations on scales and signs."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from fxrebasin.kinds.frames import Frames
from fxrebasin.symmetry.kinds import (
    KINDS,
    LINEAR,
    MONOMIAL,
    ORTHOGONAL,
    ORTHOGONAL_ONES,
    PERMUTATIONS,
    POSITIVE,
    SIGNED,
)


def test_parities_multiply_along_ties() -> None:
    frames = Frames()
    a, b, c = (frames.new("block") for _ in range(3))
    frames.tie(a, b, -1)
    frames.tie(b, c, -1)
    root, parity = frames.find(a)
    assert frames.find(c) == (root, parity)
    assert frames.find(b) == (root, -parity)


def test_what_meets_its_own_dual_is_orthogonal() -> None:
    frames = Frames()
    a, b = frames.new("block"), frames.new("block")
    frames.tie(a, b, 1)
    frames.tie(a, b, -1, "bmm", "scores")
    assert frames.kind(a) == ORTHOGONAL
    assert [cap.node for cap in frames.caps(a)] == ["scores"]
    assert frames.by_roots()["block"][0] == [{frames.find(a)[0]: Fraction(1)}]


def test_a_cap_holds_for_all_that_is_tied_later() -> None:
    frames = Frames()
    a, b = frames.new("block"), frames.new("block")
    frames.cap(a, POSITIVE, "relu", "")
    frames.cap(b, SIGNED, "tanh", "")
    frames.tie(a, b, -1)
    assert frames.kind(a) == frames.kind(b) == PERMUTATIONS


def test_scales_of_dual_frames_are_inverse() -> None:
    frames = Frames()
    weight, x, product = (frames.new("block") for _ in range(3))
    frames.tie(x, weight, -1)
    frames.multiply([(product, 1), (x, -1), (weight, -1)], "mul", "")
    scales, signs = frames.by_roots()["block"]
    assert scales == [{product: Fraction(1)}]
    assert signs == [{product}]


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7), st.sampled_from((1, -1)))))
def test_ties_say_the_same_in_any_order(ties: list[tuple[int, int, int]]) -> None:
    one, other = Frames(), Frames()
    for frames in (one, other):
        for _ in range(8):
            frames.new("block")
    for a, b, parity in ties:
        one.tie(a, b, parity)
    for a, b, parity in reversed(ties):
        other.tie(b, a, parity)
    for k in range(8):
        assert one.kind(k) == other.kind(k)
        for j in range(8):
            (r, p), (s, q) = one.find(k), one.find(j)
            (t, u), (v, w) = other.find(k), other.find(j)
            assert (r == s) == (t == v)
            if r == s and one.kind(k) == LINEAR:
                assert p * q == u * w


kinds = st.sampled_from(sorted(KINDS.values(), key=lambda kind: kind.name))


@given(kinds, kinds, kinds)
def test_kinds_form_a_lattice(a, b, c) -> None:  # type: ignore[no-untyped-def]
    assert a.meet(b) == b.meet(a)
    assert a.meet(b).meet(c) == a.meet(b.meet(c))
    assert a.meet(a) == a
    assert a.meet(LINEAR) == a
    assert a.meet(PERMUTATIONS) == PERMUTATIONS
    assert a.meet(b) in KINDS.values()


def test_meets_by_hand() -> None:
    assert ORTHOGONAL.meet(MONOMIAL) == SIGNED
    assert ORTHOGONAL_ONES.meet(MONOMIAL) == PERMUTATIONS
    assert ORTHOGONAL.meet(POSITIVE) == PERMUTATIONS
    assert ORTHOGONAL_ONES.meet(LINEAR) == ORTHOGONAL_ONES
