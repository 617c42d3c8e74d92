"""Steps of recurrent layers that accelerators compute in one op, all gates side by side."""

from __future__ import annotations

from typing import Any

from ..layouts.layout import Layout
from .call import Call, Rule


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
