"""Pointwise ops: the operands broadcast and meet."""

from __future__ import annotations

from functools import cache
from typing import Any

from ..layouts.layout import Layout
from .call import Call, Rule
from .movement import keep_entries

UNORDERED = frozenset(
    f"aten::{name}"
    for name in (
        *("add", "mul", "maximum", "minimum", "fmax", "fmin", "max", "min", "hypot"),
        *("logaddexp", "logaddexp2", "eq", "ne", "logical_and", "logical_or", "logical_xor"),
        *("bitwise_and", "bitwise_or", "bitwise_xor", "gcd", "lcm"),
    )
)
"""Ops of two operands whose order does not matter, in place as well."""


def merge(call: Call, *args: Any, **kwargs: Any) -> list[Layout]:
    """The rule of every op that torch tags as pointwise."""
    operands = [x for x in [*args, *kwargs.values()] if isinstance(x, Layout)]
    if len(operands) == 1:
        found = keep_entries(call, *operands)
    elif _is_unordered(call, args, kwargs):
        found = call.merge_unordered(*operands)
    else:
        found = call.merge(*operands)
    return [found] * len(call.shapes)


def _is_unordered(call: Call, args: Any, kwargs: Any) -> bool:
    """Is it an op of two operands of one shape, neither of them scaled, that takes nothing more?"""
    name = call.schema.name.removesuffix("_") if call.schema is not None else ""
    more = [x for x in (*args, *kwargs.values()) if not isinstance(x, Layout)]
    return name in UNORDERED and len(args) + len(kwargs) - len(more) == 2 and more in ([], [1])


def rrelu(
    call: Call,
    x: Layout,
    noise: Any,
    lower: float = 0.0,
    upper: float = 0.0,
    training: bool = False,
    *args: Any,
) -> Layout:
    """Outside of training there is one slope for all entries; in training it is random."""
    return call.pinned(x)[0] if training else keep_entries(call, x)


def log_sigmoid(call: Call, x: Layout) -> list[Layout]:
    """What is kept for the gradient has the entries of the result, or none."""
    kept = keep_entries(call, x)
    return [kept if shape == x.shape else Layout(shape) for shape in call.shapes]


def keep_each(call: Call, given: Layout | list[Layout], *args: Any) -> list[Layout]:
    """What other processes hold at a place belongs to the same units."""
    tensors = [given] if isinstance(given, Layout) else given
    return [keep_entries(call.with_shapes(x.shape), x) for x in tensors]


@cache
def each(rule: Rule) -> Rule:
    """The rule of an op on lists, which does the same to the tensors at each place of them."""

    def rule_of_lists(call: Call, *args: Any, **kwargs: Any) -> list[Layout]:
        found: list[Layout] = []
        for k, shape in enumerate(call.shapes):
            here = [_at_place(call, x, k) for x in args]
            result = rule(call.with_shapes(shape), *here, **kwargs)
            found += [result] if isinstance(result, Layout) else result
        return found

    return rule_of_lists


def _at_place(call: Call, argument: Any, k: int) -> Any:
    """What a list has at a place; a tensor of numbers, one or one per place, has one there."""
    if isinstance(argument, Layout):
        return Layout(call.pin(argument, "holds a number per tensor of a list").shape[1:])
    return argument[k] if isinstance(argument, (list, tuple)) else argument
