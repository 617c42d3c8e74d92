"""Why units cannot move: the kind, for code to decide by, and a sentence, for people to read.

>>> print(Cause(PinKind.OUTPUT, "is an output of the model", node="head"))
is an output of the model (at head)
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class PinKind(Enum):
    """What kind of thing keeps a unit in its place."""

    OUTPUT = "output"
    """It is seen from outside: the model returns it."""
    FIXED_PLACE = "fixed place"
    """It is a position of an input, of a kernel, of a feature map."""
    COPY = "copy"
    """It stands for one of several copies of a unit."""
    NOTHING = "nothing"
    """No unit is there, as in what is padded."""
    UNKNOWN_OP = "unknown op"
    """An op without a rule met it."""
    RULE = "rule"
    """The rule of an op says that it may not move."""
    UNFOLLOWED = "unfollowed"
    """It was written to, or seen through, memory that cannot be followed."""
    UNUSED = "unused"
    """Nothing that was run depends on it, so nothing is known of it."""
    EMPTY = "empty"
    """It met a tensor that has no entries on the example inputs."""
    CONSTRAINT = "constraint"
    """The user said so."""
    MEETING = "meeting"
    """It meets other units in a way that leaves no other order."""
    NESTING = "nesting"
    """It lies inside units that are pinned or in itself, or holds units that are pinned."""
    INEXPRESSIBLE = "inexpressible"
    """It could move, but not in a way that blocks can express."""
    CLAIM = "claim"
    """Moving it broke something that the analysis relied on."""
    CLOSURE = "closure"
    """A parameter is no union of products of blocks."""
    REFUTED = "refuted"
    """Moving it was seen to change what the model computes."""
    UNIQUE = "unique"
    """There is no other unit that it could change places with."""
    UNRECORDED = "unrecorded"
    """It was read from a file that does not say."""


@dataclass(frozen=True)
class Cause:
    """Why units are pinned, and where that was found."""

    kind: PinKind
    text: str
    """What is said about a unit: "is an output of the model"."""
    op: str = ""
    """The op that pinned it, if it was one."""
    node: str = ""
    """The node of the model's graph at which that happened."""

    def __str__(self) -> str:
        return f"{self.text} (at {self.node})" if self.node else self.text
