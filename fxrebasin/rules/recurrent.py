"""Recurrent layers: packed sequences, and steps that accelerators compute in one op."""

from __future__ import annotations

from typing import Any

from ..layouts.layout import Layout
from .call import Call, Rule
from .reduction import reduce_in_order


def fused_cell(*, gates: int, kept: int) -> Rule:
    """A step of ``gates`` gates, which keeps ``kept`` values per feature for its gradient."""
    wide, stored = (f"({' + '.join('h' * count)})" for count in (gates, kept))

    def rule(call: Call, *args: Any, **kwargs: Any) -> list[Layout]:
        of_input, of_hidden, state, *biases = call.tensors(args, kwargs)
        sums = call.merge(*(x for x in (of_input, of_hidden, *biases) if x is not None))
        *states, workspace = call.shapes
        state = call.signature(f"b {wide}, b h -> b h", sums, state)
        values = call.with_shapes(workspace).signature(f"b h -> b {stored}", state)
        return [*[state] * len(states), values]

    return rule


def pack(call: Call, x: Layout, lengths: Layout, *args: Any) -> list[Layout]:
    """Steps of sequences, one after the other as far as each is long, and how many are at each."""
    call.pin(lengths, "says how long sequences are")
    (steps,) = call.move(reduce_in_order(call, x, [0, 1]), lambda t: t.squeeze(0))
    return [
        call.merge(steps, call.positions(call.shape, [0])),
        *(call.positions(shape) for shape in call.shapes[1:]),
    ]
