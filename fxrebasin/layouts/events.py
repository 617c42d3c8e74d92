"""What ops have done, written down while a model runs: for questions that are asked afterwards.

Which units an op ties is concluded while it runs. What else is true of it, such as that it is
linear, is asked rarely, and the answer needs the blocks that are found in the end. So every op is
kept with the layouts of its operands and results, and with numbers that say which of them are the
same value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .layout import Layout

CONSTANT = -1
"""The number of every value that depends on neither inputs nor parameters."""


@dataclass(frozen=True, eq=False)
class Value:
    """One tensor at one time: what it holds until something else is written there."""

    number: int
    layout: Layout
    is_zero: bool = False
    """Is it a constant of zeros only?"""


@dataclass(frozen=True, eq=False)
class Event:
    """One op that was run."""

    op: str
    """Its name without the overload, as ``aten::add``; empty for what cannot be followed."""
    node: str
    args: tuple[Any, ...]
    """Its arguments, with a :class:`Value` in the place of every tensor."""
    kwargs: Mapping[str, Any]
    operands: tuple[Value, ...]
    results: tuple[Value, ...]
    exact: bool = True
    """Is its first result of floating point numbers? Rounding to integers is not linear."""
    claim: str = ""
    """What a rule of the user's own says that it commutes with, beside permutations."""


def unfollowed(node: str, values: tuple[Value, ...]) -> Event:
    """That something unknown was done to values."""
    return Event("", node, values, {}, values, ())
