"""Rules as strings: what they say, and where they cannot be read."""

from __future__ import annotations

import pytest

from fxrebasin.errors import SignatureError
from fxrebasin.signature.parsing import Pattern, parse


@pytest.mark.parametrize(
    ("text", "operands", "result"),
    [
        ("k, k ->", "[k] [k]", ""),
        ("... i, o i -> ... o", "[... i] [o i]", "... o"),
        ("n (g i) -> n g i", "[n (g i)]", "n g i"),
        ("_ d, ... -> ... d", "[_ d] [...]", "... d"),
        ("n _... -> n _...", "[n _...]", "n _..."),
        ("in_1 out -> out", "[in_1 out]", "out"),
        (" a->a ", "[a]", "a"),
        (", a -> a", "[] [a]", "a"),
        ("n (a+b), o a,p b->n(o + p)", "[n (a + b)] [o a] [p b]", "n (o + p)"),
        ("(h d + r + 1) -> (d h)", "[(h d + r + 1)]", "(d h)"),
        ("(a + a) (b) -> a b", "[(a + a) b]", "a b"),
        ("1 1 d, b n d -> b (1 + n) d", "[1 1 d] [b n d]", "b (1 + n) d"),
        ("(1 a) (1) -> a", "[a 1]", "a"),
    ],
)
def test_what_a_rule_says(text: str, operands: str, result: str) -> None:
    parsed = parse(text)
    assert " ".join(f"[{written(pattern)}]" for pattern in parsed.operands) == operands
    assert written(parsed.result) == result
    assert parsed.text == text
    assert set(parsed.names) == {None}


def written(pattern: Pattern) -> str:
    return " ".join(map(str, pattern.axes))


def test_an_axis_is_a_sum_of_products_of_letters() -> None:
    (axis,) = parse("(h d + r + 1) -> h").operands[0].axes
    assert axis.terms == (("h", "d"), ("r",), ())


def test_operands_can_have_names() -> None:
    parsed = parse("... i, weight: o i, layers.0.bias:o -> ... o")
    assert parsed.names == (None, "weight", "layers.0.bias")
    assert parsed.operands[1] == Pattern(parse("o i -> o").operands[0].axes, "weight")


def test_every_axis_knows_where_it_is_written() -> None:
    parsed = parse("a (b + c), w: (b c) -> a")
    places = [[axis.place for axis in x.axes] for x in (*parsed.operands, parsed.result)]
    assert places == [[0, 2], [14], [23]]


@pytest.mark.parametrize(
    ("text", "caret", "problem"),
    [
        ("a b c", 4, "expected exactly one '->'"),
        ("", 0, "expected exactly one '->'"),
        ("a -> b -> c", 7, "expected exactly one '->'"),
        ("a b, c -> d", 10, "'d' is in the result but in no operand"),
        ("a b -> a (b q)", 12, "'q' is in the result but in no operand"),
        ("a ab -> ab (a + b)", 16, "'b' is in the result but in no operand"),
        ("a -> a ...", 7, "'...' is in the result but in no operand"),
        ("a b, c? -> a", 6, "unexpected '?'"),
        ("a -> a, a", 6, "a signature has one result"),
        ("a, 3 -> a", 3, "the only number that can be an axis is 1, not 3"),
        ("(a + 12) -> a", 5, "the only number that can be an axis is 1, not 12"),
        # parentheses
        ("(a (b c)) -> a", 3, "parentheses cannot be nested"),
        ("(a + (b + c)) -> a", 5, "parentheses cannot be nested"),
        ("a b) -> a", 3, "')' closes nothing"),
        ("a, b () -> a", 6, "the parentheses are empty"),
        ("(a _) -> a", 3, "'_' cannot stand inside parentheses"),
        ("(a ...) -> a", 3, "'...' cannot stand inside parentheses"),
        ("(a + _...) -> a", 5, "'_...' cannot stand inside parentheses"),
        ("a (b c -> a", 2, "this '(' is never closed"),
        ("a, (b +, c -> a", 3, "this '(' is never closed"),
        ("a -> (a", 5, "this '(' is never closed"),
        # sums
        ("a -> a + b", 7, "'+' has to stand inside parentheses"),
        ("a + b -> a", 2, "'+' has to stand inside parentheses"),
        ("(+ a) -> a", 1, "a side of '+' is empty"),
        ("(a + ) -> a", 5, "a side of '+' is empty"),
        ("(a + + b) -> a", 5, "a side of '+' is empty"),
        ("b a -> b (a +)", 13, "a side of '+' is empty"),
        # twice
        ("a, ... b ... -> a", 9, "there can be one '...' or '_...' only"),
        ("... _... -> ...", 4, "there can be one '...' or '_...' only"),
        ("n i i -> n", 4, "'i' is twice in one tensor, which would be a diagonal"),
        ("(i i) -> i", 0, "'i' is twice in one tensor, which would be a diagonal"),
        ("(a + b) (c + a) -> c", 8, "'a' is twice in one tensor, which would be a diagonal"),
        ("a -> a a", 7, "'a' is twice in one tensor, which would be a diagonal"),
        # names
        ("a, : b -> a", 3, "a name is missing in front of ':'"),
        ("a, b c: b -> a", 3, "'b c' is no name of a parameter"),
        ("a, w: b, w: c -> a", 9, "there is an operand 'w' already"),
        ("a, w: x: b -> a", 7, "unexpected ':'"),
        ("a -> y: a", 6, "a result has no name"),
    ],
)  # fmt: skip
def test_a_caret_shows_what_cannot_be_read(text: str, caret: int, problem: str) -> None:
    with pytest.raises(SignatureError) as caught:
        parse(text)
    assert complaint(caught.value) == (problem, text, caret)


def complaint(error: SignatureError) -> tuple[str, str, int]:
    """The problem, the signature, and the column of it under which the caret stands."""
    first, shown, pointer = str(error).split("\n")
    assert first.endswith("; the signature is")
    assert shown.startswith("  ")
    assert pointer.lstrip() == "^"
    return first.removesuffix("; the signature is"), shown[2:], len(pointer) - 3


def test_unreadable_rules_are_value_errors() -> None:
    with pytest.raises(ValueError, match="->"):
        parse("nothing")
