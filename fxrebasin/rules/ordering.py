"""Extrema, sorting, and the positions that they find.

A position that was found among units is a name of one of them: when the units move, so does the
number. The layout of such a tensor has ``order_of``, the units that its numbers name. Where a rule
looks units up by their names (``gather``, ``scatter``) that is all there is to it; anywhere else
the numbers themselves are read, and the units must stay. A rule that knows about names is
:class:`Orderly`; for all others the units are pinned before the rule is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..layouts.adoption import resolve
from ..layouts.coordinates import along, positional, varies_on
from ..layouts.layout import Layout
from ..layouts.primitives import pin
from .call import Call, Rule
from .reduction import reduction

READ = "its order is read (argmax, sort, topk ...)"


@dataclass(frozen=True)
class Orderly:
    """A rule that knows about numbers that name units."""

    rule: Rule

    def __call__(self, call: Call, *args: Any, **kwargs: Any) -> Layout | Sequence[Layout]:
        return self.rule(call, *args, **kwargs)


def keeping(rule: Rule) -> Orderly:
    """The rule of an op that only moves what is in its first argument."""

    def kept(call: Call, x: Layout, *args: Any, **kwargs: Any) -> list[Layout]:
        found = rule(call, x, *args, **kwargs)
        layouts = [found] if isinstance(found, Layout) else found
        return [replace(layout, order_of=x.order_of) for layout in layouts]

    return Orderly(kept)


def names_along(call: Call, index: Layout, ndim: int, dim: int, n: int) -> Layout | None:
    """The units that the numbers of ``index`` name, as they lie along an axis of size ``n``.

    None where the numbers name none; their units are pinned if they lie otherwise.
    """
    named = index.order_of
    if named is None:
        return None
    if named.shape != (n,):
        pin(call.units, named, READ)
        return None
    shape = tuple(n if d == dim else 1 for d in range(ndim))
    return Layout(shape, tuple(along(c, dim, ndim) for c in named.coordinates))


def read(call: Call, *operands: Any) -> None:
    """The numbers themselves matter."""
    for x in operands:
        if isinstance(x, Layout) and x.order_of is not None:
            pin(call.units, x.order_of, READ)


def extremum(
    call: Call, x: Layout, dim: int | Layout | None = None, keepdim: bool = False
) -> list[Layout]:
    """``max`` and ``min``: of two tensors, or over a dimension, with the positions found there."""
    if isinstance(dim, Layout):
        return [call.merge(x, dim)]
    values = reduction(call, x, dim, keepdim)
    return [values, _positions_in(call, values, x, dim)][: len(call.shapes)]


def ranked(call: Call, x: Layout, k: int, dim: int = -1, keepdim: bool = False) -> list[Layout]:
    """``kthvalue``."""
    return extremum(call, x, dim, keepdim)


def position(
    call: Call, x: Layout, dim: int | None = None, keepdim: bool = False, **kwargs: Any
) -> Layout:
    """``argmax`` and ``argmin``."""
    return _positions_in(call, reduction(call, x, dim, keepdim), x, dim)


def order_along(call: Call, x: Layout, *args: Any, **kwargs: Any) -> Layout:
    """``argsort``."""
    return ordered(call, x, *args, **kwargs)[1]


def with_count(call: Call, x: Layout, k: int, dim: int = -1, *args: Any) -> list[Layout]:
    return ordered(call, x, dim)


def ordered(call: Call, x: Layout, dim: int | bool = -1, *args: Any, **kwargs: Any) -> list[Layout]:
    """Sorting: the set of values matters, and each place in the order is a new position."""
    dim = int(kwargs.get("dim", -1 if isinstance(dim, bool) else dim)) % max(x.ndim, 1)
    if not x.ndim:
        return [x, _positions_in(call, x, x)]
    x = resolve(call.units, x)
    among = call.reduce(x, [dim], keepdim=True)
    places = positional(call.units, call.shape, (dim,))
    values = Layout(call.shape, (*among.coordinates, *places))
    return [values, _positions_in(call, values, x, dim)]


def _positions_in(call: Call, like: Layout, x: Layout, dim: int | None = None) -> Layout:
    """Where in ``x`` something was found: numbers that name units along ``dim``."""
    x = resolve(call.units, x)
    if dim is not None and x.ndim:
        found = [c for c in x.coordinates if dim % x.ndim in varies_on(c)]
        if all(len(varies_on(c)) == 1 for c in found):
            named = Layout((x.shape[dim],), tuple(c.reshape(-1) for c in found))
            return Layout(like.shape, like.coordinates, order_of=named)
    return Layout(like.shape, like.coordinates, order_of=x)
