"""The sizes of a rule's letters, and rules that do not fit the shapes they are used on."""

from __future__ import annotations

from typing import Any

import pytest
from signature.test_parsing import complaint

from fxrebasin.errors import SignatureError
from fxrebasin.layouts.coordinates import Shape
from fxrebasin.signature.parsing import parse
from fxrebasin.signature.plan import plan


@pytest.mark.parametrize(
    ("text", "shapes", "given", "sizes"),
    [
        ("n k, k m -> n m", [(2, 3), (3, 4), (2, 4)], {}, {"n": 2, "k": 3, "m": 4}),
        ("n c, c -> n c", [(2, 1), (3,), (2, 3)], {}, {"n": 2, "c": 3}),
        ("n -> n", [(1,), (5,)], {}, {"n": 5}),
        ("n c, n c -> n c", [(0, 3), (1, 3), (0, 3)], {}, {"n": 0, "c": 3}),
        ("... c -> c", [(4, 5, 6), (6,)], {}, {".1": 4, ".0": 5, "c": 6}),
        ("(g i), (g o) i -> (g o)", [(6,), (4, 3), (4,)], {}, {"g": 2, "i": 3, "o": 2}),
        ("(g i) -> g", [(1,), (1,)], {}, {"g": 1, "i": 1}),
        ("(a + b), a -> b", [(7,), (3,), (4,)], {}, {"a": 3, "b": 4}),
        ("(a + a) -> a", [(6,), (3,)], {}, {"a": 3}),
        ("(a + a) ->", [(6,), ()], {}, {"a": 3}),
        ("(h d + d + 1) -> h", [(9,), (3,)], {}, {"h": 3, "d": 2}),
        ("(q + k + v) -> v", [(9,), (2,)], {"q": 3}, {"q": 3, "k": 4, "v": 2}),
        ("(a + b), (b c), c -> a", [(7,), (6,), (2,), (4,)], {}, {"a": 4, "b": 3, "c": 2}),
        ("(a + b) -> (b + a)", [(3,), (3,)], {"a": 3}, {"a": 3, "b": 0}),
        ("n 1 c, 1 -> n c", [(2, 1, 3), (1,), (2, 3)], {}, {"n": 2, "c": 3}),
    ],
)
def test_sizes_follow_from_the_shapes(
    text: str, shapes: list[Shape], given: dict[str, int], sizes: dict[str, int]
) -> None:
    space = plan(parse(text), shapes[:-1], shapes[-1], given)
    assert dict(zip(space.letters, space.shape, strict=True)) == sizes


@pytest.mark.parametrize(
    ("text", "shapes", "given", "caret", "problem"),
    [
        ("(g i) ->", [(6,), ()], {}, 1, "the size of 'g' does not follow"),
        ("n (ab + b) -> n", [(2, 6), (2,)], {}, 3, "the size of 'ab' does not follow"),
        ("n (ab + b) -> n", [(2, 6), (2,)], {"ab": 2, "q": 1}, None, "has no letter 'q' to give"),
        ("n k, k m -> n m", [(2, 3), (4, 5), (2, 5)], {}, 5,
         "operand 1, of shape (4, 5), has size 4 where 3 was expected"),
        ("n k, w: k m -> n m", [(2, 3), (4, 5), (2, 5)], {}, 8,
         "w, of shape (4, 5), has size 4 where 3 was expected"),
        ("(g i) -> g", [(7,), (2,)], {}, 0,
         "operand 0, of shape (7,), has size 7 where 6 was expected"),
        ("a, (a + b) -> b", [(3,), (2,), (1,)], {}, 3,
         "operand 1, of shape (2,), has size 2 where 3 was expected"),
        ("(a + b) ->", [(2,), ()], {"a": 3}, 0,
         "operand 0, of shape (2,), has size 2 where 3 was expected"),
        ("(a + a) ->", [(5,), ()], {}, 0,
         "operand 0, of shape (5,), has size 5 where 4 was expected"),
        ("1 a -> a", [(2, 3), (3,)], {}, 0, "operand 0, of shape (2, 3), has size 2 where 1"),
        ("a b -> a", [(2, 3), (1,)], {}, 7, "the result, of shape (1,), has size 1 where 2"),
        ("a, b c -> a", [(3,), (3,), (3,)], {}, 3, "operand 1, of shape (3,), cannot be 'b c'"),
        ("... a b -> ... a", [(3,), (3,)], {}, 0, "operand 0, of shape (3,), cannot be '... a b'"),
        (", a -> a", [(2,), (3,), (3,)], {}, 0, "operand 0, of shape (2,), cannot be a scalar"),
        ("a b -> a", [(3, 2), (3, 2)], {}, 7, "the result, of shape (3, 2), cannot be 'a'"),
        ("... a -> ... a", [(3,), (2, 3)], {}, 9, "no operand that was given has '...'"),
        ("a, b -> a b", [(3,), None, (3, 4)], {}, 10, "no operand that was given has 'b'"),
        ("a -> a", [(3,), (3,), (3,)], {}, None, "'a -> a' has 1 operands, but 2 were given"),
    ],
)  # fmt: skip
def test_a_caret_shows_what_does_not_fit(
    text: str, shapes: list[Any], given: dict[str, int], caret: int | None, problem: str
) -> None:
    with pytest.raises(SignatureError) as caught:
        plan(parse(text), shapes[:-1], shapes[-1], given)
    assert problem in str(caught.value)
    assert text in str(caught.value)
    if caret is not None:
        assert complaint(caught.value)[1:] == (text, caret)
