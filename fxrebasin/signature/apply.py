"""Rules as strings: ``"... i, o i, o -> ... o"``.

A rule says which axes of which tensors belong together: a group of axes per operand, separated by
commas, and behind the arrow those of the result. From simple to rich:

``"n c -> n c"``
    Letters, or words, name axes. What has one letter moves together.
``"n c -> n"``
    A letter that is missing on the right is summed over, or otherwise reduced by something that
    does not depend on the order.
``"n k, k m -> n m"``
    Operands that share a letter meet along it: a product of matrices. Axes of size 1 broadcast.
``"... i, o i, o -> ... o"``
    ``...`` stands for any leading axes, which broadcast: a linear layer. An operand given as None,
    as the bias here may be, is skipped.
``"... i, weight: o i, bias: o -> ... o"``
    The same for a type of module: a name in front of an operand says which parameter it is.
``"n i _, o i _ -> n o _"``
    ``_`` is an axis whose positions carry meaning and stay pinned: height and width, the taps of a
    kernel. On the right they are new positions. ``_...`` is any number of them.
``"n (g i) _..., (g o) i _..., (g o) -> n (g o) _..."``
    ``(g i)`` is a product in C order, one axis that holds every pair of a ``g`` and an ``i``: a
    grouped convolution. Sizes that the shapes leave open are given: ``g=4``.
``"n a, n b -> n (a + b)"``
    ``(a + b)`` is a sum, one axis that holds the entries of ``a`` and then those of ``b``: a
    concatenation. Each side can be a product, ``(h d + r)``, and there can be more than two.
``"... (a + a) -> ... a"``
    A letter may be on both sides: here both halves meet, as in a gated linear unit.
``"... i, (q + k + v) i, (q + k + v) -> ... (q + k + v)"``
    A sum is short for several rules: each part of the result is what the rule would be with that
    part alone on the right, and each part of an operand is an operand of all of them.
``"1 1 d, b n d -> b (1 + n) d"``
    ``1`` is an axis of size 1 without a letter: a class token is put in front.

A letter cannot be on two axes of one tensor, which would be a diagonal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np

from ..layouts.concatenation import concatenate, label_by_operand
from ..layouts.coordinates import Shape, positional
from ..layouts.grouped_axes import note_groups
from ..layouts.layout import Layout
from ..layouts.primitives import merge, move, reduce
from ..layouts.units import Units
from .parsing import Axis, Product, parse
from .plan import Space, plan

__all__ = ["apply", "parse"]


def apply(
    units: Units,
    signature: str,
    operands: Sequence[Layout | None],
    shape: Shape,
    sizes: Mapping[str, int] | None = None,
) -> Layout:
    """The layout of the result, of shape ``shape``, of an op that obeys ``signature``.

    >>> from fxrebasin.layouts.coordinates import along
    >>> units = Units()
    >>> halves = Layout((2, 6), (along(units.fresh(6), 1, 2),))
    >>> gated = apply(units, "... (a + a) -> ... a", [halves], (2, 3))
    >>> units.find(halves.coordinates[0]).ravel().tolist()
    [1, 2, 3, 1, 2, 3]

    Args:
        units: the units of the analysis.
        signature: the rule string.
        operands: one layout per operand; None where an optional one is absent.
        shape: of the result; fixes the sizes of its ``_`` axes.
        sizes: of letters that cannot be inferred from the shapes alone.

    Raises:
        SignatureError: the signature cannot be read or does not fit the operands.
    """
    shapes = [None if x is None else x.shape for x in operands]
    space = plan(parse(signature), shapes, shape, sizes or {})
    present = [x for x in operands if x is not None]
    pieces = [
        piece
        for x, axes in zip(present, space.operands, strict=True)
        for piece in _pieces(units, space, x, axes)
    ]
    note_groups(units, pieces, space.products)
    places = Layout(space.shape, tuple(positional(units, space.shape, space.pinned)))
    summed = space.without(letter for axis in space.result for letter in axis.letters)
    merged = merge(units, places, *pieces, reduced=summed)
    return _result(units, space, reduce(units, merged, summed, keepdim=True), shape)


def _pieces(units: Units, space: Space, x: Layout, axes: tuple[Axis, ...]) -> list[Layout]:
    """An operand cut along its sums, into pieces with the dims of the space."""
    pieces: list[tuple[Layout, tuple[Product, ...]]] = [(x, ())]
    for d, axis in enumerate(axes):
        pieces = [
            (piece, (*terms, term))
            for whole, terms in pieces
            for piece, term in zip(_cut(units, space, whole, d, axis), axis.terms, strict=True)
        ]
    return [_spread(space, piece, terms) for piece, terms in pieces]


def _cut(units: Units, space: Space, x: Layout, d: int, axis: Axis) -> list[Layout]:
    """The parts of a tensor for the terms of a sum, between which units cannot be exchanged."""
    lengths = [space.size(term) for term in axis.terms]
    if len(lengths) == 1 or x.shape[d] != sum(lengths):
        return [x] * len(lengths)
    if x.parameter is None:
        for coordinate in x.coordinates:
            if coordinate.shape[d] > 1:
                sides = np.split(coordinate, list(accumulate(lengths))[:-1], axis=d)
                label_by_operand(units, [units.find(side) for side in sides])
    parts = move(x, lambda t: t.split(lengths, d))
    return [Layout(part.shape) if 0 in part.shape else part for part in parts]


def _spread(space: Space, x: Layout, terms: tuple[Product, ...]) -> Layout:
    """A tensor whose axes are products, with the dims of the space."""
    letters = [letter for term in terms for letter in term]
    sizes = [
        1 if n == 1 else space.sizes[letter]
        for n, term in zip(x.shape, terms, strict=True)
        for letter in term
    ]
    x = x.reshape(tuple(sizes))
    x = x.permute(sorted(range(x.ndim), key=lambda d: space.letters.index(letters[d])))
    own = dict(zip(letters, sizes, strict=True))
    return x.reshape(tuple(own.get(letter, 1) for letter in space.letters))


def _result(
    units: Units, space: Space, merged: Layout, shape: Shape, terms: tuple[Product, ...] = ()
) -> Layout:
    """The result, concatenated from its parts: one for every choice of a term per axis."""
    d = len(terms)
    if d < len(space.result):
        axis = space.result[d]
        chosen = axis.terms if not axis.mark else ((),)
        parts = [_result(units, space, merged, shape, (*terms, term)) for term in chosen]
        return parts[0] if len(parts) == 1 else concatenate(units, parts, d)
    return _part(units, space, merged, shape, terms)


def _part(
    units: Units, space: Space, merged: Layout, shape: Shape, terms: tuple[Product, ...]
) -> Layout:
    letters = [letter for term in terms for letter in term]
    rest = space.without(letters)
    if summed := tuple(d for d in rest if merged.shape[d] != 1):
        merged = reduce(units, merged, summed, keepdim=True)
    x = merged.permute((*(space.letters.index(letter) for letter in letters), *rest))
    x = x.reshape(tuple(space.size(term) for term in terms))
    places = tuple(d for d, axis in enumerate(space.result) if axis.mark)
    whole = tuple(shape[d] if d in places else n for d, n in enumerate(x.shape))
    return Layout(whole, (*x.coordinates, *positional(units, whole, places)))
