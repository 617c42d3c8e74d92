"""Which ops only choose entries of a tensor, and which multiply a weight with zeros."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..layouts.layout import Layout, Parameter

aten = torch.ops.aten

CHOOSING = frozenset(
    (
        aten.as_strided,
        aten.as_strided_copy,
        aten.diagonal,
        aten.gather,
        aten.index,
        aten.index_select,
        aten.narrow,
        aten.narrow_copy,
        aten.select,
        aten.slice,
        aten.split,
        aten.split_with_sizes,
        aten.take,
        aten.unbind,
        aten.unsafe_split,
        aten.unsafe_split_with_sizes,
    )
)
"""Ops whose results are entries of their first operand, perhaps not all."""

CONTRACTIONS: dict[Any, tuple[tuple[int, int, int], ...]] = {
    aten.addmm: ((1, 2, 0), (2, 1, 1)),
    aten.addmv: ((2, 1, 1),),
    aten.baddbmm: ((1, 2, 1), (2, 1, 2)),
    aten.bmm: ((0, 1, 1), (1, 0, 2)),
    aten.convolution: ((0, 1, 1),),
    aten.linear: ((0, 1, 1),),
    aten.mm: ((0, 1, 0), (1, 0, 1)),
    aten.mv: ((1, 0, 1),),
}
"""Per op, which operand may be a state, which the weight that multiplies it, and the weight's dim
that is summed over."""


def only_chooses(func: Any) -> bool:
    return func.overloadpacket in CHOOSING


def find_unfed(func: Any, args: Sequence[Any]) -> list[tuple[Parameter, int]]:
    """The axes of parameters that an op sums over after multiplying them with zeros."""
    found = []
    for of_state, of_weight, dim in CONTRACTIONS.get(func.overloadpacket, ()):
        state, weight = args[of_state], args[of_weight]
        parameter = weight.parameter if isinstance(weight, Layout) else None
        if parameter is None or not _is_zero(state) or weight.shape[dim] < 2:
            continue
        for axis, index in parameter.index(weight).items():
            if index.shape[dim] > 1:
                found.append((parameter, axis))
    return found


def _is_zero(state: Any) -> bool:
    value = state.value if isinstance(state, Layout) else None
    return value is not None and value.is_floating_point() and not bool(value.any())
