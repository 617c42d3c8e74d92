"""Rules as strings: how they are read, where they are wrong, what they do."""

from __future__ import annotations

import numpy as np
import pytest

from fxrebasin.errors import SignatureError
from fxrebasin.layout import Layout, along, positional
from fxrebasin.parameters import Parameter
from fxrebasin.signature import Axis, apply, parse
from fxrebasin.units import Ids, Units


def parameter(units: Units, *shape: int) -> Parameter:
    return Parameter(("p",), shape, False, tuple(units.fresh(n) for n in shape))


def features(units: Units, shape: tuple[int, ...], ids: Ids, dim: int = -1) -> Layout:
    """Pinned positions everywhere, units along one dimension."""
    dim = dim % len(shape)
    others = tuple(d for d in range(len(shape)) if d != dim)
    return Layout(shape, (*positional(units, shape, others), along(ids, dim, len(shape))))


def movable(units: Units, layout: Layout) -> list[Ids]:
    return [c for c in layout.coordinates if not units.is_pinned(c).all()]


# reading


@pytest.mark.parametrize(
    ("text", "operands", "result"),
    [
        ("k, k ->", ((("k",),), (("k",),)), ()),
        ("... i, o i -> ... o", ((("...",), ("i",)), (("o",), ("i",))), (("...",), ("o",))),
        ("n (g i) -> n g i", ((("n",), ("g", "i")),), (("n",), ("g",), ("i",))),
        ("_ d, ... -> ... d", ((("_",), ("d",)), (("...",),)), (("...",), ("d",))),
        ("n _... -> n _...", ((("n",), ("_...",)),), (("n",), ("_...",))),
        ("in_1 out -> out", ((("in_1",), ("out",)),), (("out",),)),
        (" a->a ", ((("a",),),), (("a",),)),
    ],
)
def test_what_a_rule_says(
    text: str, operands: tuple[tuple[Axis, ...], ...], result: tuple[Axis, ...]
) -> None:
    parsed = parse(text)
    assert parsed.operands == operands
    assert parsed.result == result
    assert parsed.text == text


@pytest.mark.parametrize(
    ("text", "caret", "problem"),
    [
        ("a b c", 4, "expected exactly one '->'"),
        ("", 0, "expected exactly one '->'"),
        ("a -> b -> c", 1, "expected exactly one '->'"),
        ("a b, c -> d", 10, "'d' is in the result but in no operand"),
        ("a b -> a (b q)", 12, "'q' is in the result but in no operand"),
        ("a b, c? -> a", 6, "unexpected '?'"),
        ("a -> a + b", 7, "unexpected '+'"),
        ("a, 3 -> a", 3, "unexpected '3'"),
        ("(a (b c)) -> a", 3, "products cannot be nested"),
        ("a b) -> a", 3, "')' closes nothing"),
        ("a, b () -> a", 6, "')' closes nothing"),
        ("(a _) -> a", 3, "'_' cannot stand inside a product"),
        ("(a ...) -> a", 3, "'...' cannot stand inside a product"),
        ("a (b c -> a", 6, "')' is missing"),
        ("a -> (a", 7, "')' is missing"),
        ("a, ... b ... -> a", 2, "an operand can have one '...' or '_...' only"),
        ("... _... -> ...", 0, "an operand can have one '...' or '_...' only"),
    ],
)
def test_a_caret_shows_what_cannot_be_read(text: str, caret: int, problem: str) -> None:
    with pytest.raises(SignatureError) as caught:
        parse(text)
    first, shown, pointer = str(caught.value).split("\n")
    assert first == f"{problem} in the signature"
    assert shown == f"  {text}"
    assert pointer == "  " + " " * caret + "^"


def test_unreadable_rules_are_value_errors() -> None:
    with pytest.raises(ValueError, match="->"):
        parse("nothing")


# doing


def test_a_linear_layer() -> None:
    units = Units()
    inputs, w, b = units.fresh(4), parameter(units, 3, 4), parameter(units, 3)
    x = features(units, (2, 5, 4), inputs)
    out = apply(units, "... i, o i, o -> ... o", [x, w.layout(), b.layout()], (2, 5, 3))
    assert out.shape == (2, 5, 3)
    (outputs,) = movable(units, out)
    assert outputs.shape == (1, 1, 3)
    named = {c.shape: units.find(c).ravel().tolist() for c in w.coordinates}
    assert named[(1, 4)] == inputs.tolist()
    assert named[(3, 1)] == units.find(outputs).ravel().tolist()
    assert [units.find(c).tolist() for c in b.coordinates] == [named[(3, 1)]]


def test_an_operand_may_be_absent() -> None:
    units = Units()
    w = parameter(units, 3, 4)
    x = features(units, (2, 4), units.fresh(4))
    for operands in ([x, w.layout(), None], [x, w.layout()]):
        out = apply(units, "... i, o i, o -> ... o", operands, (2, 3))
        assert len(movable(units, out)) == 1


def test_a_grouped_convolution_ties_channels_to_groups() -> None:
    units = Units()
    inputs, w = units.fresh(4), parameter(units, 6, 2, 3)
    x = features(units, (1, 4, 8), inputs, 1)
    text = "n (g i) _..., (g o) i _..., (g o) -> n (g o) _..."
    out = apply(units, text, [x, w.layout(), None], (1, 6, 6), {"g": 2})
    assert out.shape == (1, 6, 6)
    outputs = next(c for c in movable(units, out) if c.size == 6).ravel()
    parents: dict[int, int] = {}
    for child, parent, _ in units.parents:
        parents |= zip(units.find(child).tolist(), units.find(parent).tolist(), strict=True)
    above = [parents[int(i)] for i in units.find(np.concatenate([inputs, outputs]))]
    assert above[:4] == [above[0]] * 2 + [above[2]] * 2
    assert above[4:] == [above[0]] * 3 + [above[2]] * 3
    assert above[0] != above[2]


def test_kernel_taps_and_new_positions_are_pinned() -> None:
    units = Units()
    x = features(units, (1, 2, 8), units.fresh(2), 1)
    w = parameter(units, 3, 2, 5)
    out = apply(units, "n i _, o i _ -> n o _", [x, w.layout()], (1, 3, 4))
    pinned = [c for c in out.coordinates if units.is_pinned(c).all()]
    assert any(c.shape == (1, 1, 4) for c in pinned)
    taps = [c for c in w.coordinates if c.shape == (1, 1, 5)]
    assert taps
    assert all(units.is_pinned(c).all() for c in taps)


def test_axes_of_size_one_broadcast() -> None:
    units = Units()
    a = units.fresh(3)
    x = features(units, (2, 3), a)
    out = apply(units, "n c, n c -> n c", [x, Layout((1, 3), ())], (2, 3))
    (left,) = movable(units, out)
    assert left.ravel().tolist() == a.tolist()


def test_letters_that_are_missing_on_the_right_are_summed() -> None:
    units = Units()
    a = units.fresh(3)
    out = apply(units, "n c -> n", [features(units, (2, 3), a)], (2,))
    assert out.shape == (2,)
    assert not movable(units, out)
    assert not units.is_pinned(a).any()


def test_more_operands_than_the_rule_has() -> None:
    with pytest.raises(SignatureError, match="'a -> a' has 1 operands, but 2 were given"):
        apply(Units(), "a -> a", [Layout((3,)), Layout((3,))], (3,))


def test_an_operand_with_another_number_of_axes() -> None:
    with pytest.raises(SignatureError, match=r"operand 1 of 'a, b c -> a' .* shape is \(3,\)"):
        apply(Units(), "a, b c -> a", [Layout((3,)), Layout((3,))], (3,))


@pytest.mark.parametrize("shape", [(), (3,)])
def test_too_few_axes_for_an_ellipsis(shape: tuple[int, ...]) -> None:
    with pytest.raises(SignatureError, match="operand 0"):
        apply(Units(), "... a b -> ... a", [Layout(shape)], (3,))


def test_a_size_that_cannot_be_inferred() -> None:
    with pytest.raises(SignatureError, match=r"the size of 'g' in '\(g i\) ->' cannot"):
        apply(Units(), "(g i) ->", [Layout((6,))], ())


def test_a_size_that_does_not_fit() -> None:
    with pytest.raises(SignatureError) as caught:
        apply(Units(), "n k, k m -> n m", [Layout((2, 3)), Layout((4, 5))], (2, 5))
    assert "axis 'k'" in str(caught.value)
    assert "size 3 where 4 was expected" in str(caught.value)
    with pytest.raises(SignatureError, match=r"axis 'g i' has size 7 where 6 was expected"):
        apply(Units(), "(g i) -> g", [Layout((7,))], (2,), {"g": 2})
