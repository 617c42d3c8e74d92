"""From a signature and the shapes of tensors to a *space* that has a dim per letter.

Every operand is a tensor in this space, of size 1 along the letters that it does not have.

>>> from fxrebasin.signature.parsing import parse
>>> space = plan(parse("... i, (q + k) i -> ... (q + k)"), [(2, 5), (7, 5)], (2, 7), {"q": 3})
>>> dict(zip(space.letters, space.shape))
{'.0': 2, 'i': 5, 'q': 3, 'k': 4}
>>> space.without(["q"])
(0, 1, 3)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from ..errors import SignatureError
from ..layouts.coordinates import Shape
from .parsing import ANY, ANY_PLACES, PLACE, Axis, Pattern, Product, Signature

_RESULT = "the result"


@dataclass(frozen=True)
class Space:
    """The letters of a signature with their sizes, and the axes of its tensors by letter."""

    operands: tuple[tuple[Axis, ...], ...]
    """Per operand that is there, with ``...`` written out and every ``_`` given a letter."""
    result: tuple[Axis, ...]
    """With ``...`` written out; its ``_`` are no letters of the space but new positions."""
    letters: tuple[str, ...]
    sizes: Mapping[str, int]

    @property
    def shape(self) -> Shape:
        return tuple(self.sizes[letter] for letter in self.letters)

    @property
    def pinned(self) -> tuple[int, ...]:
        return tuple(d for d, letter in enumerate(self.letters) if letter.startswith(PLACE))

    @property
    def products(self) -> list[tuple[int, ...]]:
        """The dimensions of every product on an axis of the result."""
        terms = [term for axis in self.result if not axis.mark for term in axis.terms]
        return [tuple(self.letters.index(letter) for letter in term) for term in terms]

    def without(self, letters: Iterable[str]) -> tuple[int, ...]:
        """The dimensions of all other letters."""
        kept = set(letters)
        return tuple(d for d, letter in enumerate(self.letters) if letter not in kept)

    def size(self, term: Product) -> int:
        return prod(self.sizes[letter] for letter in term)


@dataclass(frozen=True)
class _Tensor:
    """An operand or the result, with what it is called in errors."""

    name: str
    axes: tuple[Axis, ...]
    shape: Shape


def plan(
    signature: Signature, shapes: Sequence[Shape | None], shape: Shape, sizes: Mapping[str, int]
) -> Space:
    """Give every letter a dimension and a size; ``shapes`` has None for absent operands.

    Raises:
        SignatureError: the signature does not fit the shapes, or a size is missing.
    """
    if len(shapes) > len(signature.operands):
        raise SignatureError(
            f"{signature.text!r} has {len(signature.operands)} operands, "
            f"but {len(shapes)} were given"
        )
    tensors = [
        _write_out(signature, pattern, pattern.name or f"operand {k}", s, f"_{k}")
        for k, (pattern, s) in enumerate(zip(signature.operands, shapes, strict=False))
        if s is not None
    ]
    letters = tuple(dict.fromkeys(x for t in tensors for axis in t.axes for x in axis.letters))
    result = _write_out(signature, signature.result, _RESULT, shape, None)
    for axis in result.axes:
        for letter in () if axis.mark else axis.letters:
            if letter not in letters:
                found = f"no operand that was given has {_spell(letter)!r}"
                raise signature.error(axis.place, found)
    for letter in sizes:
        if not any(letter in pattern.letters for pattern in signature.operands):
            raise SignatureError(f"{signature.text!r} has no letter {letter!r} to give a size to")
    tensors.append(result)
    found_sizes = _infer(tensors, sizes)
    _check(signature, tensors, found_sizes)
    return Space(tuple(t.axes for t in tensors[:-1]), result.axes, letters, found_sizes)


def _write_out(
    signature: Signature, pattern: Pattern, name: str, shape: Shape, prefix: str | None
) -> _Tensor:
    """A tensor's axes, one per dimension; its ``_`` become letters where a prefix is given."""
    extra = len(shape) - sum(axis.mark not in (ANY, ANY_PLACES) for axis in pattern.axes)
    axes: list[Axis] = []
    for axis in pattern.axes:
        if axis.mark == ANY:
            axes += [Axis(((f".{n}",),), axis.place) for n in reversed(range(extra))]
        elif axis.mark:
            for _ in range(extra if axis.mark == ANY_PLACES else 1):
                letter = PLACE if prefix is None else f"{prefix}.{len(axes)}"
                axes.append(Axis(((letter,),), axis.place))
        else:
            axes.append(axis)
    if len(axes) != len(shape):
        written = repr(" ".join(map(str, pattern.axes))) if pattern.axes else "a scalar"
        raise signature.error(pattern.place, f"{name}, of shape {shape}, cannot be {written}")
    return _Tensor(name, tuple(axes), shape)


def _infer(tensors: list[_Tensor], given: Mapping[str, int]) -> dict[str, int]:
    """The sizes of all letters that follow from the shapes.

    Those that are an axis of their own first, then one by one those that are the only ones of an
    axis whose size is not known yet. An axis of size 1 may be broadcast, and is believed last.
    """
    sizes = dict(given)
    axes = [(axis, n) for t in tensors for axis, n in zip(t.axes, t.shape, strict=True)]
    for considered in ([(a, n) for a, n in axes if n != 1], axes):
        for axis, n in considered:
            if len(axis.terms) == len(axis.letters) == 1:
                sizes.setdefault(axis.letters[0], n)
        while True:
            before = len(sizes)
            for axis, n in considered:
                unknown = set(axis.letters) - sizes.keys()
                if len(unknown) == 1:
                    _solve(axis, n, unknown.pop(), sizes)
            if len(sizes) == before:
                break
    return sizes


def _solve(axis: Axis, n: int, letter: str, sizes: dict[str, int]) -> None:
    """The size of one letter, from an axis of size ``n`` that is linear in it."""
    times = others = 0
    for term in axis.terms:
        rest = prod(sizes[x] for x in term if x != letter)
        if letter in term:
            times += rest
        else:
            others += rest
    if times:
        sizes[letter] = max(n - others, 0) // times


def _check(signature: Signature, tensors: list[_Tensor], sizes: Mapping[str, int]) -> None:
    for t in tensors:
        for axis, n in zip(t.axes, t.shape, strict=True):
            if axis.mark:
                continue
            for letter in axis.letters:
                if letter not in sizes:
                    raise signature.error(
                        signature.place_of(letter, axis.place),
                        f"the size of {letter!r} does not follow from the shapes and has to be "
                        "given",
                    )
            expected = sum(prod(sizes[x] for x in term) for term in axis.terms)
            if n != expected and (n != 1 or t.name == _RESULT):
                raise signature.error(
                    axis.place,
                    f"{t.name}, of shape {t.shape}, has size {n} where {expected} was expected",
                )


def _spell(letter: str) -> str:
    return ANY if letter.startswith(".") else letter
