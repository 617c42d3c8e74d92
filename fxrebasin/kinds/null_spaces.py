"""Solutions of homogeneous linear equations over the rationals, and over the field of two elements.

Equations are sparse: most say that two or three unknowns add up to zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from fractions import Fraction
from typing import Any


def null_space(
    equations: Iterable[Mapping[int, Fraction]], unknowns: Sequence[int]
) -> list[dict[int, int]]:
    """A basis, of whole numbers without a common divisor, of what solves all equations.

    >>> half = Fraction(1, 2)
    >>> null_space([{0: Fraction(1), 1: -half}, {2: Fraction(1)}], [0, 1, 2])
    [{1: 2, 0: 1}]
    """
    reduced = _reduce(equations)
    basis = []
    for free in (u for u in unknowns if u not in reduced):
        vector = {free: Fraction(1)}
        vector |= {pivot: -row[free] for pivot, row in reduced.items() if free in row}
        scale = math.lcm(*(x.denominator for x in vector.values()))
        basis.append({u: int(x * scale) for u, x in vector.items()})
    return basis


def _reduce(equations: Iterable[Mapping[int, Fraction]]) -> dict[int, dict[int, Fraction]]:
    """Reduced rows by their pivots: each is in no other row."""
    rows: dict[int, dict[int, Fraction]] = {}
    for equation in equations:
        row = {u: x for u, x in equation.items() if x}
        for pivot in [u for u in row if u in rows]:
            _subtract(row, rows[pivot], row[pivot])
        if not row:
            continue
        pivot = min(row)
        lead = row[pivot]
        row = {u: x / lead for u, x in row.items()}
        for other in rows.values():
            if pivot in other:
                _subtract(other, row, other[pivot])
        rows[pivot] = row
    return rows


def _subtract(row: dict[Any, Fraction], other: Mapping[Any, Fraction], factor: Fraction) -> None:
    for u, x in other.items():
        left = row.get(u, Fraction(0)) - factor * x
        if left:
            row[u] = left
        else:
            row.pop(u, None)


def null_space_of_signs(
    equations: Iterable[Iterable[int]], unknowns: Sequence[int]
) -> list[set[int]]:
    """A basis of the sets of unknowns of which every equation contains an even number.

    >>> null_space_of_signs([{0, 1}, {2}], [0, 1, 2])
    [{0, 1}]
    """
    rows: dict[int, set[int]] = {}
    for equation in equations:
        row = set(equation)
        for pivot in [u for u in row if u in rows]:
            row ^= rows[pivot]
        if not row:
            continue
        pivot = min(row)
        for other in rows.values():
            if pivot in other:
                other ^= row
        rows[pivot] = row
    free = [u for u in unknowns if u not in rows]
    return [{u} | {pivot for pivot, row in rows.items() if u in row} for u in free]


def independent_rows(
    rows: Sequence[Mapping[Any, int]], known: Sequence[Mapping[Any, int]] = ()
) -> list[int]:
    """The numbers of rows that are no combinations of known ones and of the rows before.

    >>> independent_rows([{0: 1}, {0: 2}, {0: 1, 1: 1}], known=[{1: 3}])
    [0]
    """
    kept = []
    reduced: dict[Any, dict[Any, Fraction]] = {}
    for k, given in enumerate((*known, *rows)):
        row = {u: Fraction(x) for u, x in given.items() if x}
        while row and (pivot := min(row)) in reduced:
            _subtract(row, reduced[pivot], row[pivot] / reduced[pivot][pivot])
        if row:
            reduced[min(row)] = row
            kept.append(k - len(known))
    return [k for k in kept if k >= 0]


def independent_sets(
    sets: Sequence[AbstractSet[Any]], known: Sequence[AbstractSet[Any]] = ()
) -> list[int]:
    """The numbers of sets that are no symmetric differences of known ones and of those before.

    >>> independent_sets([{0}, {0, 1}, {1}], known=[{1}])
    [0]
    """
    kept = []
    reduced: dict[Any, set[Any]] = {}
    for k, given in enumerate((*known, *sets)):
        row = set(given)
        while row and min(row) in reduced:
            row ^= reduced[min(row)]
        if row:
            reduced[min(row)] = row
            kept.append(k - len(known))
    return [k for k in kept if k >= 0]
