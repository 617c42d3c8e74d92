"""What it means for kinds that blocks are nested.

Units that have others inside are not mixed: what is inside one may be permuted by itself, and after
a rotation there would be no inside of one.

The queries of a head can be doubled and its keys halved. Where any matrix may act inside heads,
that is one of these already, and no freedom of the heads, which are then permuted only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from ..symmetry.group import Symmetry
from ..symmetry.kinds import PERMUTATIONS, BlockKind, Cap, Factor, Kind, Kinds, Mix, Place
from .null_spaces import independent_rows, independent_sets

Row = dict[tuple[str, int, int, int], int]
"""To which power something scales each copy in each segment of each tensor."""


def with_nesting(kinds: Kinds, symmetry: Symmetry) -> Kinds:
    """Kinds of which outer blocks mix nothing, and have no freedom that is one of inner ones."""
    return _without_redundant(_without_mixed_parents(kinds, symmetry), symmetry)


def _without_mixed_parents(kinds: Kinds, symmetry: Symmetry) -> Kinds:
    mixed = {n for n, k in kinds.blocks.items() if k.kind.mix and symmetry.children(n)}
    permutes = BlockKind(caps=(Cap(PERMUTATIONS, "what is nested inside"),))
    return replace(
        kinds,
        blocks={n: permutes if n in mixed else kind for n, kind in kinds.blocks.items()},
        factors={place: f for place, f in kinds.factors.items() if f.block not in mixed},
        absorptions=tuple(a for a in kinds.absorptions if a.block not in mixed),
    )


def _without_redundant(kinds: Kinds, symmetry: Symmetry) -> Kinds:
    """Kinds whose scales and signs are none that matrices inside a block do."""
    blocks, factors = dict(kinds.blocks), dict(kinds.factors)
    of_block: dict[str, dict[Place, Factor]] = {}
    for place, factor in kinds.factors.items():
        of_block.setdefault(factor.block, {})[place] = factor
    for name, found in kinds.blocks.items():
        inside = [c for c in symmetry.children(name) if _has_multiples_of_one(kinds.of(c).kind)]
        if not inside:
            continue
        here = of_block.get(name, {})
        multiples = {child: _row(_parities(of_block.get(child, {}))) for child in inside}
        invertible = [r for c, r in multiples.items() if kinds.of(c).kind.mix is Mix.INVERTIBLE]
        scales = independent_rows(
            [_row(_powers(here, k)) for k in range(found.scales)], known=invertible
        )
        signs = independent_sets(
            [_odd(_row(_changes(here, k))) for k in range(found.signs)],
            known=[_odd(row) for row in multiples.values()],
        )
        blocks[name] = _with(found, len(scales), len(signs))
        for place, factor in here.items():
            factors[place] = replace(
                factor,
                scales=tuple(tuple(powers[k] for k in scales) for powers in factor.scales),
                signs=tuple(tuple(changes[k] for k in signs) for changes in factor.signs),
            )
    return replace(kinds, blocks=blocks, factors=factors)


def _has_multiples_of_one(kind: Kind) -> bool:
    """Those that keep the vector of ones have none but one itself."""
    return kind.mix is not Mix.NOT and not kind.ones


def _with(found: BlockKind, scales: int, signs: int) -> BlockKind:
    kind = Kind(Mix.NOT, scales > 0, signs > 0)
    return replace(found, kind=kind, scales=scales, signs=signs)


Cells = Iterator[tuple[Place, int, int]]


def _parities(factors: Mapping[Place, Factor]) -> Cells:
    return ((p, c, parity) for p, f in factors.items() for c, parity in enumerate(f.parity))


def _powers(factors: Mapping[Place, Factor], k: int) -> Cells:
    return ((p, c, powers[k]) for p, f in factors.items() for c, powers in enumerate(f.scales))


def _changes(factors: Mapping[Place, Factor], k: int) -> Cells:
    return ((p, c, changes[k]) for p, f in factors.items() for c, changes in enumerate(f.signs))


def _row(cells: Cells) -> Row:
    """Where a block lies twice in a segment, powers add up."""
    row: Row = {}
    for (name, g, s, _), copy, power in cells:
        row[name, g, s, copy] = row.get((name, g, s, copy), 0) + power
    return row


def _odd(row: Row) -> set[tuple[str, int, int, int]]:
    return {cell for cell, power in row.items() if power % 2}
