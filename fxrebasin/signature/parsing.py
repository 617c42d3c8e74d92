"""Reading rule strings: from text to :class:`Signature`. For their meaning see ``apply``.

>>> rule = parse("... i, weight: (q + k) i -> ... (q + k)")
>>> rule.names
(None, 'weight')
>>> [str(axis) for axis in rule.result.axes]
['...', '(q + k)']
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from ..errors import SignatureError

Product = tuple[str, ...]
"""Letters whose product is taken; none of them: an axis of size 1."""

ANY, PLACE, ANY_PLACES = "...", "_", "_..."

_TOKEN = re.compile(r"\s*(?P<token>[A-Za-z]\w*|_\.\.\.|\.\.\.|\d+|\S)")
_NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*")


@dataclass(frozen=True)
class Axis:
    """A sum of products of letters; one of the marks ``...``, ``_`` and ``_...`` stands alone."""

    terms: tuple[Product, ...]
    place: int = field(default=0, compare=False)
    """Where it stands in the text, for the caret of an error."""

    @property
    def letters(self) -> tuple[str, ...]:
        return tuple(letter for term in self.terms for letter in term)

    @property
    def mark(self) -> str:
        """The mark that the axis is, or nothing."""
        return next((x for x in self.letters if x in (ANY, PLACE, ANY_PLACES)), "")

    def __str__(self) -> str:
        inside = " + ".join(" ".join(term) or "1" for term in self.terms)
        return f"({inside})" if " " in inside else inside


@dataclass(frozen=True)
class Pattern:
    """The axes of an operand, with its name if it has one, or those of the result."""

    axes: tuple[Axis, ...]
    name: str | None = None
    place: int = field(default=0, compare=False)

    @property
    def letters(self) -> set[str]:
        return {letter for axis in self.axes for letter in axis.letters}


@dataclass(frozen=True)
class Signature:
    """A rule string that was read."""

    text: str
    operands: tuple[Pattern, ...]
    result: Pattern

    @property
    def names(self) -> tuple[str | None, ...]:
        """The name of each operand, None where it has none."""
        return tuple(pattern.name for pattern in self.operands)

    def error(self, place: int, problem: str) -> SignatureError:
        """An error with a caret under a place of the text."""
        return _error(self.text, place, problem)

    def place_of(self, letter: str, start: int) -> int:
        """Where a letter stands, at ``start`` or behind."""
        return _place_of(self.text, letter, start)


@cache
def parse(text: str) -> Signature:
    """Read a rule string.

    Raises:
        SignatureError: with a caret under the place that cannot be read.
    """
    left, arrow, right = text.partition("->")
    if not arrow or "->" in right:
        where = len(left) + 2 + right.index("->") if arrow else max(len(text) - 1, 0)
        raise _error(text, where, "expected exactly one '->'")
    operands: list[Pattern] = []
    start = 0
    for part in left.split(","):
        operands.append(_read_operand(text, start, part, {x.name for x in operands}))
        start += len(part) + 1
    start = len(left) + len(arrow)
    for unexpected, problem in ((",", "a signature has one result"), (":", "a result has no name")):
        if unexpected in right:
            raise _error(text, start + right.index(unexpected), problem)
    result = _read_axes(text, start, right)
    known = {PLACE, ANY_PLACES}.union(*(x.letters for x in operands))
    for axis in result.axes:
        for letter in axis.letters:
            if letter not in known:
                where = _place_of(text, letter, axis.place)
                raise _error(text, where, f"{letter!r} is in the result but in no operand")
    return Signature(text, tuple(operands), result)


def _read_operand(text: str, start: int, part: str, taken: set[str | None]) -> Pattern:
    name, colon, rest = part.partition(":")
    if not colon:
        return _read_axes(text, start, part)
    where = start + len(name) - len(name.lstrip())
    if not name.strip():
        raise _error(text, start + len(name), "a name is missing in front of ':'")
    if not _NAME.fullmatch(name.strip()):
        raise _error(text, where, f"{name.strip()!r} is no name of a parameter")
    if name.strip() in taken:
        raise _error(text, where, f"there is an operand {name.strip()!r} already")
    pattern = _read_axes(text, start + len(name) + 1, rest)
    return Pattern(pattern.axes, name.strip(), where)


def _read_axes(text: str, start: int, part: str) -> Pattern:
    tokens = _tokens(start, part)
    axes: list[Axis] = []
    for place, token in tokens:
        if token == "(":
            axes.append(Axis(_read_sum(text, place, tokens), place))
        elif token == ")":
            raise _error(text, place, "')' closes nothing")
        elif token == "+":
            raise _error(text, place, "'+' has to stand inside parentheses")
        else:
            axes.append(Axis((_factor(text, place, token),), place))
    marks = [axis for axis in axes if axis.mark in (ANY, ANY_PLACES)]
    if len(marks) > 1:
        raise _error(text, marks[1].place, "there can be one '...' or '_...' only")
    _refuse_repeated_letters(text, axes)
    first = axes[0].place if axes else start + len(part) - len(part.lstrip())
    return Pattern(tuple(axes), place=first)


def _read_sum(text: str, opening: int, tokens: Iterator[tuple[int, str]]) -> tuple[Product, ...]:
    """The terms of ``(a b + c)``, from behind its opening parenthesis to the closing one."""
    terms: list[Product] = []
    product: list[str] = []
    is_empty = True
    for place, token in tokens:
        if token in ("+", ")"):
            if is_empty:
                alone = token == ")" and not terms
                problem = "the parentheses are empty" if alone else "a side of '+' is empty"
                raise _error(text, place, problem)
            terms.append(tuple(product))
            product, is_empty = [], True
            if token == ")":
                return tuple(terms)
        elif token == "(":
            raise _error(text, place, "parentheses cannot be nested")
        elif token in (ANY, PLACE, ANY_PLACES):
            raise _error(text, place, f"{token!r} cannot stand inside parentheses")
        else:
            product += _factor(text, place, token)
            is_empty = False
    raise _error(text, opening, "this '(' is never closed")


def _factor(text: str, place: int, token: str) -> Product:
    if token == "1":
        return ()
    if token.isdecimal():
        raise _error(text, place, f"the only number that can be an axis is 1, not {token}")
    if token[0].isalpha() or token in (ANY, PLACE, ANY_PLACES):
        return (token,)
    raise _error(text, place, f"unexpected {token!r}")


def _refuse_repeated_letters(text: str, axes: list[Axis]) -> None:
    """A letter may be in several terms of one sum, but no entry may lie at it twice."""
    seen: set[str] = set()
    for axis in axes:
        for term in axis.terms:
            for k, letter in enumerate(term):
                if letter in seen or letter in term[:k]:
                    raise _error(
                        text,
                        axis.place,
                        f"{letter!r} is twice in one tensor, which would be a diagonal",
                    )
        seen.update(set(axis.letters) - {PLACE})


def _tokens(start: int, part: str) -> Iterator[tuple[int, str]]:
    """Every token with its place in the text."""
    return ((start + m.start("token"), m["token"]) for m in _TOKEN.finditer(part))


def _place_of(text: str, letter: str, start: int) -> int:
    found = re.compile(rf"(?<!\w){re.escape(letter)}(?![\w.])").search(text, start)
    return found.start() if found else start


def _error(text: str, place: int, problem: str) -> SignatureError:
    return SignatureError(f"{problem}; the signature is\n  {text}\n  {' ' * place}^")
