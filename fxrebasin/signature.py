"""Rules as strings: ``"... i, o i, o -> ... o"``.

One group of axes per operand, then those of the result:

* letters (or words) name axes; operands that share a letter meet along it;
* a letter missing on the right is reduced;
* ``...`` stands for any leading axes, which broadcast;
* ``(h d)`` is a product in C order: one axis that holds every pair of an ``h`` and a ``d``;
* ``_`` is an axis whose positions carry meaning and stay pinned (convolution taps, height and
  width), ``_...`` any number of them; on the right they are new positions.

A linear layer is ``"... i, o i, o -> ... o"``, a grouped convolution
``"n (g i) _..., (g o) i _..., (g o) -> n (g o) _..."``. An operand given as None is skipped.

>>> parse("... i, o i -> ... o").operands[1]
(('o',), ('i',))
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod

from .errors import SignatureError
from .layout import Layout, Shape, along, permute_dims, positional, reshape
from .primitives import merge, reduce
from .units import Units

Axis = tuple[str, ...]
"""The letters whose product an axis is; ``("_",)``, ``("...",)`` and ``("_...",)`` are special."""

_TOKEN = re.compile(r"\s*(?:(?P<word>[A-Za-z]\w*)|(?P<mark>_\.\.\.|\.\.\.|_|\(|\))|(?P<bad>\S))")


@dataclass(frozen=True)
class Signature:
    """A parsed rule string."""

    text: str
    operands: tuple[tuple[Axis, ...], ...]
    result: tuple[Axis, ...]


@cache
def parse(text: str) -> Signature:
    """Read a rule string.

    Raises:
        SignatureError: with a caret under the place that cannot be read.
    """
    left, arrow, right = text.partition("->")
    if not arrow or "->" in right:
        raise _error(text, max(len(left) - 1, 0), "expected exactly one '->'")
    operands, start = [], 0
    for part in left.split(","):
        operands.append(_parse_axes(text, start, part))
        start += len(part) + 1
    result = _parse_axes(text, len(left) + 2, right)
    known = {letter for axes in operands for axis in axes for letter in axis}
    for axis in result:
        for letter in axis:
            if letter not in known and letter not in ("_", "_..."):
                where = text.index(letter, len(left) + 2)
                raise _error(text, where, f"{letter!r} is in the result but in no operand")
    return Signature(text, tuple(operands), result)


def _parse_axes(text: str, start: int, part: str) -> tuple[Axis, ...]:
    axes: list[Axis] = []
    product: list[str] | None = None
    position = 0
    while match := _TOKEN.match(part, position):
        where = start + match.start(match.lastgroup or 0)
        token = match.group(match.lastgroup or 0)
        position = match.end()
        if match["bad"]:
            raise _error(text, where, f"unexpected {token!r}")
        if token == "(":
            if product is not None:
                raise _error(text, where, "products cannot be nested")
            product = []
        elif token == ")":
            if not product:
                raise _error(text, where, "')' closes nothing")
            axes.append(tuple(product))
            product = None
        elif product is not None:
            if not match["word"]:
                raise _error(text, where, f"{token!r} cannot stand inside a product")
            product.append(token)
        else:
            axes.append((token,))
    if product is not None:
        raise _error(text, start + len(part.rstrip()), "')' is missing")
    if sum(axis in (("...",), ("_...",)) for axis in axes) > 1:
        raise _error(text, start, "an operand can have one '...' or '_...' only")
    return tuple(axes)


def _error(text: str, where: int, problem: str) -> SignatureError:
    return SignatureError(f"{problem} in the signature\n  {text}\n  {' ' * where}^")


def apply(
    units: Units,
    signature: str,
    operands: Sequence[Layout | None],
    shape: Shape,
    sizes: Mapping[str, int] | None = None,
) -> Layout:
    """The layout of the result, of shape ``shape``, of an op that obeys ``signature``.

    Args:
        units: the units of the analysis.
        signature: the rule string.
        operands: one layout per operand; None where an optional one is absent.
        shape: of the result; fixes the sizes of its ``_`` axes.
        sizes: of letters that cannot be inferred from the operands alone.

    Raises:
        SignatureError: the signature does not fit the operands.
    """
    parsed = parse(signature)
    if len(operands) > len(parsed.operands):
        raise SignatureError(
            f"{signature!r} has {len(parsed.operands)} operands, but {len(operands)} were given"
        )
    space = _Space(parsed, dict(sizes or {}))
    present = [
        (x, space.bind(k, axes, x))
        for k, (axes, x) in enumerate(zip(parsed.operands, operands, strict=False))
        if x is not None
    ]
    result = space.expand_result(shape)
    space.infer(present, result, shape)
    order = list(dict.fromkeys(letter for _, axes in present for axis in axes for letter in axis))
    kept = {letter for axis in result for letter in axis}
    reduced = tuple(d for d, letter in enumerate(order) if letter not in kept)
    pinned_dims = tuple(d for d, letter in enumerate(order) if letter.startswith("_"))
    layouts = [space.place(x, axes, order) for x, axes in present]
    full = tuple(space.sizes[letter] for letter in order)
    taps = Layout(full, tuple(positional(units, full, pinned_dims)))
    merged = reduce(units, merge(units, taps, *layouts, reduced=reduced), reduced, keepdim=True)
    return space.result(units, merged, result, order, shape)


class _Space:
    """The axes of one application: a dimension per letter."""

    def __init__(self, signature: Signature, sizes: dict[str, int]) -> None:
        self.signature = signature
        self.sizes = sizes

    def bind(self, k: int, axes: tuple[Axis, ...], x: Layout) -> tuple[Axis, ...]:
        """The axes of operand ``k`` with ``...`` written out and every ``_`` given a name."""
        extra = x.ndim - sum(axis not in (("...",), ("_...",)) for axis in axes)
        bound: list[Axis] = []
        for position, axis in enumerate(axes):
            if axis == ("...",):
                bound += [(f".{n}",) for n in reversed(range(extra))]
            elif axis == ("_...",):
                bound += [(f"_{k}.{n}",) for n in range(extra)]
            elif axis == ("_",):
                bound.append((f"_{k}:{position}",))
            else:
                bound.append(axis)
        if len(bound) != x.ndim:
            raise SignatureError(
                f"operand {k} of {self.signature.text!r} should have "
                f"{len(axes)} axes, but its shape is {x.shape}"
            )
        return tuple(bound)

    def expand_result(self, shape: Shape) -> tuple[Axis, ...]:
        axes = self.signature.result
        extra = len(shape) - sum(axis not in (("...",), ("_...",)) for axis in axes)
        result: list[Axis] = []
        for axis in axes:
            if axis == ("...",):
                result += [(f".{n}",) for n in reversed(range(extra))]
            elif axis in (("_...",), ("_",)):
                result += [()] * (extra if axis == ("_...",) else 1)
            else:
                result.append(axis)
        return tuple(result)

    def infer(
        self,
        present: list[tuple[Layout, tuple[Axis, ...]]],
        result: tuple[Axis, ...],
        shape: Shape,
    ) -> None:
        """Find the size of every letter; broadcast axes of size 1 give way."""
        shapes = [(axes, x.shape) for x, axes in present] + [(result, shape)]
        for _ in range(2):
            for axes, ns in shapes:
                for axis, n in zip(axes, ns, strict=True):
                    unknown = [letter for letter in axis if letter not in self.sizes]
                    if len(axis) == 1:
                        self.sizes[axis[0]] = max(n, self.sizes.get(axis[0], 1))
                    elif len(unknown) == 1:
                        known = prod(self.sizes[letter] for letter in axis if letter in self.sizes)
                        self.sizes[unknown[0]] = n // known
        for axes, ns in shapes[:-1]:
            for axis, n in zip(axes, ns, strict=True):
                missing = [letter for letter in axis if letter not in self.sizes]
                if missing:
                    raise SignatureError(
                        f"the size of {missing[0]!r} in {self.signature.text!r} cannot be inferred"
                    )
                expected = prod(self.sizes[letter] for letter in axis)
                if n not in (1, expected):
                    raise SignatureError(
                        f"{self.signature.text!r} does not fit: the axis {' '.join(axis)!r} has "
                        f"size {n} where {expected} was expected"
                    )

    def place(self, x: Layout, axes: tuple[Axis, ...], order: list[str]) -> Layout:
        """An operand with one dimension per letter of the space, size 1 where it has none."""
        letters = [letter for axis in axes for letter in axis]
        split = tuple(
            1 if x.shape[d] == 1 else self.sizes[letter]
            for d, axis in enumerate(axes)
            for letter in axis
        )
        x = reshape(x, split)
        present = sorted(range(len(letters)), key=lambda d: order.index(letters[d]))
        x = permute_dims(x, tuple(present))
        sizes = dict(zip((letters[d] for d in present), x.shape, strict=True))
        return reshape(x, tuple(sizes.get(letter, 1) for letter in order))

    def result(
        self,
        units: Units,
        merged: Layout,
        result: tuple[Axis, ...],
        order: list[str],
        shape: Shape,
    ) -> Layout:
        letters = [letter for axis in result for letter in axis]
        kept = [order.index(letter) for letter in letters]
        rest = [d for d in range(len(order)) if d not in kept]
        x = permute_dims(merged, tuple(kept + rest))
        split = reshape(x, x.shape[: len(kept)])
        open_shape = tuple(
            prod(self.sizes[letter] for letter in axis) if axis else 1 for axis in result
        )
        x = reshape(split, open_shape)
        coordinates = list(x.coordinates)
        for d, axis in enumerate(result):
            if not axis and shape[d] > 1:
                coordinates.append(along(units.positions(d, shape[d]), d, len(shape)))
        return Layout(shape, tuple(coordinates))
