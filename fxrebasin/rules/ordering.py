"""Extrema, sorting, and the indices that they find.

``argmax``, ``topk`` and ``sort`` return indices. An index of a unit follows it: when the units are
permuted, the number changes to the unit's new position. The layout of such a tensor has
``order_of``: the units that its numbers are indices of. ``gather`` and ``scatter`` use the numbers
only to find these units again, so nothing is lost there. Any other op reads the numbers themselves,
and the units must stay where they are.

A rule that knows of such indices is an :class:`IndexRule`; for all other rules the units are pinned
before the rule is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..layouts.coordinates import along, varies_on
from ..layouts.layout import Layout
from .call import Call, Rule
from .reduction import reduce

READ = "its order is read (argmax, sort, topk ...)"


@dataclass(frozen=True)
class IndexRule:
    """A rule that knows what to do with indices of units."""

    rule: Rule

    def __call__(self, call: Call, *args: Any, **kwargs: Any) -> Layout | Sequence[Layout]:
        return self.rule(call, *args, **kwargs)


def keep_indices(rule: Rule) -> IndexRule:
    """The rule of an op that only moves what is in its first argument, indices as well."""

    def kept(call: Call, x: Layout, *args: Any, **kwargs: Any) -> list[Layout]:
        found = rule(call, x, *args, **kwargs)
        layouts = [found] if isinstance(found, Layout) else found
        return [replace(layout, order_of=x.order_of) for layout in layouts]

    return IndexRule(kept)


def units_along(call: Call, index: Layout, ndim: int, dim: int, n: int) -> Layout | None:
    """The units that the numbers of ``index`` are indices of, along ``dim`` of a larger tensor.

    None where the numbers are no indices of units, or of such as lie otherwise, which are pinned.
    """
    named = index.order_of
    if named is None:
        return None
    if named.shape != (n,):
        call.pin(named, READ)
        return None
    shape = tuple(n if d == dim else 1 for d in range(ndim))
    return Layout(shape, tuple(along(c, dim, ndim) for c in named.coordinates))


def pin_indexed(call: Call, *operands: Any) -> None:
    """Pin the units that the numbers of operands are indices of: the numbers are read."""
    for x in operands:
        if isinstance(x, Layout) and x.order_of is not None:
            call.pin(x.order_of, READ)


def extremum(
    call: Call, x: Layout, dim: int | Layout | None = None, keepdim: bool = False
) -> list[Layout]:
    """``max``, ``min`` and ``median``: of two tensors, or along a dim, with the indices there."""
    if isinstance(dim, Layout):
        return [call.merge_unordered(x, dim)]
    values = reduce(call, x, dim, keepdim)
    return [values, _indices(call, values, x, dim)][: len(call.shapes)]


def kthvalue(call: Call, x: Layout, k: int, dim: int = -1, keepdim: bool = False) -> list[Layout]:
    return extremum(call, x, dim, keepdim)


def mode(call: Call, x: Layout, dim: int = -1, keepdim: bool = False) -> list[Layout]:
    return extremum(call, x, dim, keepdim)


def argmax(
    call: Call, x: Layout, dim: int | None = None, keepdim: bool = False, **kwargs: Any
) -> Layout:
    """``argmax`` and ``argmin``."""
    return _indices(call, reduce(call, x, dim, keepdim), x, dim)


def argsort(call: Call, x: Layout, *args: Any, **kwargs: Any) -> Layout:
    return sort(call, x, *args, **kwargs)[1]


def topk(call: Call, x: Layout, k: int, dim: int = -1, *args: Any) -> list[Layout]:
    return sort(call, x, dim)


def sort(call: Call, x: Layout, dim: int | bool = -1, *args: Any, **kwargs: Any) -> list[Layout]:
    """The set of values matters, and each place in the order is a new position."""
    dim = int(kwargs.get("dim", -1 if isinstance(dim, bool) else dim)) % max(x.ndim, 1)
    if not x.ndim:
        return [x, _indices(call, x, x)]
    among = call.reduce(x, [dim], keepdim=True)
    values = call.merge(among, call.positions(call.shape, [dim]))
    return [values, _indices(call, values, x, dim)]


def _indices(call: Call, values: Layout, x: Layout, dim: int | None = None) -> Layout:
    """The indices along ``dim`` of ``x`` at which ``values`` were found."""
    x = call.resolve(x)
    if dim is not None and x.ndim:
        lying = [c for c in x.coordinates if dim % x.ndim in varies_on(c)]
        if all(len(varies_on(c)) == 1 for c in lying):
            named = Layout((x.shape[dim],), tuple(c.reshape(-1) for c in lying))
            return Layout(values.shape, values.coordinates, order_of=named)
    return Layout(values.shape, values.coordinates, order_of=x)
