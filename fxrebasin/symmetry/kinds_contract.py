"""What kinds promise of the symmetry that they belong to, as one check for those read from a file.

Transforms act by factors and look at nothing twice. So every place of a block of a larger kind than
permutations has one, with a parity and exponents for each copy, and nothing is said of tensors,
blocks or axes that are not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import NoReturn

from ..errors import InvalidSymmetryError
from .kinds import PERMUTATIONS, BlockKind, Factor, Kinds, Mix, Place
from .parts import Group, Segment


def check_kinds(symmetry: Group, kinds: Kinds) -> None:
    """Make sure that what is said of kinds can be relied on.

    Raises:
        InvalidSymmetryError: naming the block, tensor or place where it contradicts the symmetry.
    """
    lies_at = dict(_places(symmetry))
    for name, kind in kinds.blocks.items():
        if name not in symmetry.blocks:
            _refuse(f"the kind of {name!r}: expected a block of that name, found none")
        _check_kind(name, kind)
        inside = [block.name for block in symmetry.blocks.values() if block.parent == name]
        if kind.kind.mix and inside:
            _refuse(f"block {name!r}, in which {inside[0]!r} is nested: expected units not mixed")
    for place, factor in kinds.factors.items():
        if place not in lies_at:
            _refuse(f"a factor at {place}: expected a block there, found none")
        _check_factor(place, factor, lies_at[place], kinds.of(factor.block))
    for place, segment in lies_at.items():
        block = segment.blocks[place[3]]
        if kinds.of(block).kind != PERMUTATIONS and place not in kinds.factors:
            _refuse(f"block {block!r}, of a larger kind: expected a factor at {place}, found none")
    _check_vectors(kinds, lies_at, {p.name for p in symmetry.parameters})


def _places(symmetry: Group) -> Iterator[tuple[Place, Segment]]:
    for parameter in symmetry.parameters:
        for g, group in enumerate(parameter.groups):
            for s, segment in enumerate(group.segments):
                for d in range(len(segment.blocks)):
                    yield (parameter.name, g, s, d), segment


def _check_kind(name: str, found: BlockKind) -> None:
    numbers = (found.scales, found.signs)
    whole = all(isinstance(n, int) and n >= 0 for n in numbers)
    allowed = (found.kind.scale, found.kind.sign) if found.kind.mix is Mix.NOT else (False, False)
    if not whole or tuple(n > 0 for n in numbers) != allowed:
        _refuse(
            f"block {name!r} of the kind {found.kind.name}: expected scales and signs of that, "
            f"found {found.scales!r} and {found.signs!r}"
        )


def _check_factor(place: Place, factor: Factor, segment: Segment, kind: BlockKind) -> None:
    where = f"the factor at {place}"
    block, copies = segment.blocks[place[3]], segment.positions.shape[-1]
    if factor.block != block:
        _refuse(f"{where}: expected block {block!r}, found {factor.block!r}")
    if len(factor.parity) != copies or not set(factor.parity) <= {-1, 0, 1}:
        _refuse(f"{where}: expected {copies} parities of -1, 0 or 1, found {factor.parity}")
    for what, rows, length in (
        ("scale", factor.scales, kind.scales),
        ("sign", factor.signs, kind.signs),
    ):
        is_left_out = not rows and not length
        is_table = len(rows) == copies and all(len(row) == length for row in rows)
        if not (is_left_out or is_table) or not all(isinstance(x, int) for r in rows for x in r):
            _refuse(f"{where}: expected {copies} rows of {length} exponents, one per {what}")


def _check_vectors(kinds: Kinds, lies_at: Mapping[Place, Segment], names: set[str]) -> None:
    for name, added in kinds.variances.items():
        if name not in names or not isinstance(added, (int, float)) or not isfinite(added):
            _refuse(f"the variance {name!r}: expected a parameter and a number, found {added!r}")
    for one in kinds.absorptions:
        if one.vector not in names or one.block not in kinds.blocks:
            _refuse(f"absorbing {one.vector!r}: expected a parameter, and a block that has a kind")
        for place, powers in one.readers.items():
            if place not in lies_at or len(powers) != lies_at[place].positions.shape[-1]:
                _refuse(f"what reads {one.vector!r}: expected a power per copy at {place}")
    for place in kinds.centred:
        if place not in lies_at:
            _refuse(f"centred at {place}: expected a block there, found none")


def _refuse(problem: str) -> NoReturn:
    raise InvalidSymmetryError(
        f"{problem}; analyse the model again, and if this is what fxrebasin.analyze returned, "
        "please report the model"
    )
