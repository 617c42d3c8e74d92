"""How large the linear group is that acts on the units of a block: its kind.

Permutations of hidden units keep what a network computes; often a larger group does. ReLU lets
every unit be scaled by a positive number, tanh lets it change its sign, and where nothing but
linear maps meet a block, any invertible matrix will do. The kinds form a lattice, of which
:meth:`Kind.meet` takes the greatest lower bound:

```
             GL                mix any units
           /    \\
         O      monomial       orthogonal; permute, scale and change signs
          \\    /       \\
         signed S   positive monomial
              \\      /
                 S             permutations
```

Beside GL and O are their subgroups that keep the vector of ones, as LayerNorm demands.

>>> ORTHOGONAL.meet(MONOMIAL).name, POSITIVE.meet(SIGNED).name
('signed S', 'S')
>>> LINEAR.meet(ORTHOGONAL_ONES).describe(96)
'O(95), keeps ones'
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum


class Mix(IntEnum):
    """Which matrices may act on the units of a block."""

    NOT = 0
    """Those with one entry per row and column."""
    ORTHOGONAL = 1
    INVERTIBLE = 2


@dataclass(frozen=True)
class Kind:
    """A subgroup of the invertible matrices that contains all permutations."""

    mix: Mix
    scale: bool
    """May units be scaled by positive numbers?"""
    sign: bool
    """May they change their signs?"""
    ones: bool = False
    """Of matrices that mix: must they keep the vector of ones?"""

    def meet(self, other: Kind) -> Kind:
        """The largest kind that is inside both.

        >>> LINEAR.meet(MONOMIAL) == MONOMIAL
        True
        """
        mix = min(self.mix, other.mix)
        ones = self.ones or other.ones
        if mix is Mix.NOT and ones:  # a matrix with one entry per row that keeps ones permutes
            return PERMUTATIONS
        return Kind(mix, self.scale and other.scale, self.sign and other.sign, ones)

    @property
    def name(self) -> str:
        if self.mix is not Mix.NOT:
            return ("GL" if self.mix is Mix.INVERTIBLE else "O") + ("|1" if self.ones else "")
        if self.scale:
            return "monomial" if self.sign else "positive monomial"
        return "signed S" if self.sign else "S"

    def describe(self, size: int) -> str:
        """The group as it is written for ``size`` units."""
        if self.mix is Mix.ORTHOGONAL and self.ones:
            return f"O({size - 1}), keeps ones"
        if self.mix is not Mix.NOT:
            group = "GL" if self.mix is Mix.INVERTIBLE else "O"
            return f"{group}({size})" + (", keeps ones" if self.ones else "")
        return f"{self.name}({size})" if self.name.endswith("S") else self.name


LINEAR = Kind(Mix.INVERTIBLE, True, True)
LINEAR_ONES = Kind(Mix.INVERTIBLE, True, True, ones=True)
ORTHOGONAL = Kind(Mix.ORTHOGONAL, False, True)
ORTHOGONAL_ONES = Kind(Mix.ORTHOGONAL, False, True, ones=True)
MONOMIAL = Kind(Mix.NOT, True, True)
POSITIVE = Kind(Mix.NOT, True, False)
SIGNED = Kind(Mix.NOT, False, True)
PERMUTATIONS = Kind(Mix.NOT, False, False)

KINDS = {
    kind.name: kind
    for kind in (
        LINEAR,
        LINEAR_ONES,
        ORTHOGONAL,
        ORTHOGONAL_ONES,
        MONOMIAL,
        POSITIVE,
        SIGNED,
        PERMUTATIONS,
    )
}


@dataclass(frozen=True)
class Cap:
    """An op that lets a block have no larger kind than this."""

    kind: Kind
    op: str
    node: str = ""
    """The node of the model's graph at which that happened."""

    def __str__(self) -> str:
        where = f" (at {self.node})" if self.node else ""
        return f"{self.op} allows {self.kind.name}{where}"


@dataclass(frozen=True)
class BlockKind:
    """The group that acts on a block beside, and instead of, its permutations."""

    kind: Kind = PERMUTATIONS
    scales: int = 0
    """In how many independent ways each unit can be scaled; 0 where units are mixed."""
    signs: int = 0
    """In how many independent ways it can change its sign."""
    caps: tuple[Cap, ...] = ()
    """The ops that keep the kind from being larger, in the order in which they were met."""
    absorbed: tuple[str, ...] = ()
    """The weights of norms that have to be absorbed by what reads them, so that they are one."""
    before: Kind | None = None
    """The kind while nothing is absorbed, where that makes a difference."""

    def dimension(self, size: int) -> int:
        """In how many independent directions elements can move, under one parent; the weights of
        norms that are absorbed are directions as well.

        >>> BlockKind(LINEAR).dimension(3), BlockKind(ORTHOGONAL).dimension(3)
        (9, 3)
        """
        inside = size - 1 if self.kind.ones else size
        if self.kind.mix is Mix.ORTHOGONAL:
            mixing = inside * (inside - 1) // 2
        else:
            mixing = size * inside if self.kind.mix is Mix.INVERTIBLE else 0
        return mixing + size * (self.scales + len(self.absorbed))

    def describe(self, size: int) -> str:
        """One line about a block of ``size`` units.

        >>> BlockKind(POSITIVE, scales=1).describe(8)
        'positive monomial'
        >>> BlockKind(ORTHOGONAL, absorbed=("norm.weight",)).describe(8)
        'O(8) once 1 norm is absorbed'
        """
        text = self.kind.describe(size)
        if self.scales > 1:
            text += f", {self.scales} scales"
        if self.absorbed:
            n = len(self.absorbed)
            text += f" once {n} norm{'s are' if n > 1 else ' is'} absorbed"
        return text


Place = tuple[str, int, int, int]
"""A tensor's name, the number of a group of its axes, of a segment there, and of its dimension."""


@dataclass(frozen=True)
class Factor:
    """How the element of a block acts along one dimension of a segment, for each of its copies.

    An element is a matrix M, or, for a kind that does not mix, a permutation with scales and signs.
    """

    block: str
    parity: tuple[int, ...]
    """1 where M acts, -1 where its inverse transpose does, 0 where nothing does (absorbed)."""
    scales: tuple[tuple[int, ...], ...] = ()
    """Per copy, the exponent of each of the block's scales."""
    signs: tuple[tuple[int, ...], ...] = ()
    """Per copy, for each of the block's signs, whether it acts."""


@dataclass(frozen=True)
class Absorption:
    """A vector that can be made one by scaling the units of a block."""

    block: str
    vector: str
    """The parameter that becomes one."""
    readers: Mapping[Place, tuple[int, ...]] = field(default_factory=dict)
    """Per place, and copy there, to which power of the vector it is multiplied."""


@dataclass(frozen=True)
class Kinds:
    """The kinds of all blocks of a model, and how their elements act on what it stores."""

    blocks: Mapping[str, BlockKind]
    factors: Mapping[Place, Factor] = field(default_factory=dict)
    absorptions: tuple[Absorption, ...] = ()
    variances: Mapping[str, float] = field(default_factory=dict)
    """Running variances: what batch norm adds to them, so that their sum is what scales."""
    centred: tuple[Place, ...] = ()
    """Where the mean over the units of a block may be taken away, once norms are absorbed: nothing
    but layer norms, which take it away themselves, is given what is written there."""

    def describe(self, block: str, size: int) -> str:
        """One line about the kind of a block of ``size`` units; empty where that is not known."""
        return self.blocks[block].describe(size) if block in self.blocks else ""

    def of(self, block: str) -> BlockKind:
        """What is known of a block; that it can be permuted if nothing else is."""
        return self.blocks.get(block, BlockKind())
