"""Which tensors hold entries of one and the same tensor, as the halves that it was split into.

What such a tensor holds at units is what the tensor that it comes from holds there. So two of them
can be told apart by their units alone, and where their entries meet in an op that does not mind
the order, as a maximum, they can change places. The same goes for what one function makes of each,
entry by entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from ..layouts.layout import Layout
from ..rules.call import Rule
from ..rules.pointwise import merge

aten = torch.ops.aten

MOVES = frozenset(
    (
        aten.alias,
        aten.clone,
        aten.detach,
        aten.expand,
        aten.flip,
        aten.permute,
        aten.reshape,
        aten.roll,
        aten.select,
        aten.slice,
        aten.split,
        aten.split_with_sizes,
        aten.squeeze,
        aten.t,
        aten.transpose,
        aten.unbind,
        aten.unsafe_split,
        aten.unsafe_split_with_sizes,
        aten.unsqueeze,
        aten.view,
        aten._unsafe_view,
    )
)
"""Ops whose results hold entries of their only operand."""


def with_origin(func: Any, rule: Rule, arguments: Any, results: Sequence[Layout]) -> list[Layout]:
    """The results of an op of the built-in ``rule``, which remember what they are entries of."""
    leaves = tree_leaves(arguments)
    operands = [x for x in leaves if isinstance(x, Layout)]
    if len(operands) != 1 or operands[0].parameter is not None:
        return list(results)
    (x,) = operands
    origin = x.entries_of
    if func.overloadpacket not in MOVES:
        if not _acts_alike_on_entries(func, rule) or any(r.shape != x.shape for r in results):
            return list(results)
        origin = (func, tuple(map(repr, (y for y in leaves if y is not x))), origin)
    return [replace(r, origin=origin) for r in results]


def _acts_alike_on_entries(func: Any, rule: Rule) -> bool:
    acts_on_entries = rule is merge or func.overloadpacket is aten._to_copy
    return acts_on_entries and torch.Tag.nondeterministic_seeded not in func.tags
