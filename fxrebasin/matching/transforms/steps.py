"""The best element of one block, given what every pair of its units gains.

For permutations that is a linear assignment problem, for rotations an orthogonal Procrustes
problem, whose value is the sum of singular values. Where units change signs, entries gain by a pair
of units as they are, or with the opposite sign: the assignment is that of the better of both.

Source: P. Schönemann, "A generalized solution of the orthogonal Procrustes problem",
Psychometrika 31 (1966).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from ...assignment import assign
from ...symmetry.random_elements import complement_of_ones

Pattern = tuple[int, ...]
"""For each sign of a block, whether it acts; empty where there are none."""
Gains = Mapping[Pattern, Tensor]
"""By the signs that act, what it gains to put units of B in the places of those of A: one matrix
``(batch, n, n)`` each."""


@dataclass(frozen=True, eq=False)
class Best:
    """The best elements of a batch."""

    values: Tensor
    """``(batch,)`` float64: what they gain."""
    indices: Tensor | None = None
    """``(batch, n)``."""
    signs: Tensor | None = None
    """``(batch, signs, n)``, 1 where a sign changes."""
    matrices: Tensor | None = None
    """``(batch, n, n)``."""


def permute(gains: Gains, *, name: str) -> Best:
    """The best permutations.

    >>> permute({(): torch.tensor([[[1.0, 2.0], [2.0, 1.0]]])}, name="gains").indices.tolist()
    [[1, 0]]
    """
    found = assign(_total(gains), name=name)
    return Best(found.value, indices=found.columns)


def permute_signed(gains: Gains, signs: int, *, name: str) -> Best:
    """The best permutations with signs.

    >>> found = permute_signed({(1,): torch.tensor([[[1.0, -2.0], [2.0, 1.0]]])}, 1, name="gains")
    >>> found.indices.tolist(), found.signs.tolist(), found.values.tolist()
    ([[1, 0]], [[[1, 0]]], [4.0])
    """
    best: Tensor | None = None
    for chosen in product((0, 1), repeat=signs):
        changed = {p: _is_odd(p, chosen) for p in gains}
        value = _total({p: -g if changed[p] else g for p, g in gains.items()})
        if best is None:
            best, which = value, torch.zeros_like(value, dtype=torch.int64)
        else:
            number = sum(bit << k for k, bit in enumerate(chosen))
            which = torch.where(value > best, number, which)
            best = torch.maximum(best, value)
    assert best is not None
    found = assign(best, name=name)
    at = which.gather(2, found.columns[..., None])[..., 0]
    bits = torch.stack([(at >> k) & 1 for k in range(signs)], dim=1)
    return Best(found.value, indices=found.columns, signs=bits.to(torch.int8))


def rotate(gains: Gains, *, keep_ones: bool) -> Best:
    """The best orthogonal matrices, of all or of those that keep the vector of ones.

    >>> turned = rotate({(): torch.tensor([[[0.0, -1.0], [1.0, 0.0]]])}, keep_ones=False)
    >>> turned.matrices.round(decimals=6).tolist(), turned.values.tolist()
    ([[[0.0, -1.0], [1.0, 0.0]]], [2.0])
    """
    total = _total(gains).double()
    inside = total
    if keep_ones:
        basis = complement_of_ones(total.shape[-1]).to(total.device)
        inside = basis.mT @ total @ basis
    u, s, vh = torch.linalg.svd(inside)
    matrices, values = u @ vh, s.sum(-1)
    if keep_ones:
        matrices = basis @ matrices @ basis.mT + 1 / total.shape[-1]
        values = values + total.sum((-1, -2)) / total.shape[-1]
    return Best(values, matrices=matrices)


def _total(gains: Gains) -> Tensor:
    matrices = iter(gains.values())
    total = next(matrices)
    for one in matrices:
        total = total + one
    return total


def _is_odd(pattern: Pattern, chosen: Pattern) -> bool:
    """Does an entry on which these signs act change, if the units' signs are chosen so?"""
    return sum(a * b for a, b in zip(pattern, chosen, strict=False)) % 2 == 1
