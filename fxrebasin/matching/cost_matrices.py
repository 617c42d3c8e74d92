"""Cost matrices of blocks, kept from visit to visit and brought up to date.

Entry ``(i, j)`` says what it gains to put unit ``j`` of B in the place of unit ``i`` of A, all
other blocks being where they are: an inner product over everything else that the two units'
weights are indexed by. When the neighbours of a block have moved, only the positions that moved
are multiplied again, the new entries minus the old ones: late in a descent, when few units still
change places, that is a small share of the whole product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from .inner_products import Indices, InnerProducts, Occurrence, Sources, free_first, select

ENTRIES = 1 << 22
"""Of a tensor, how many are brought into the order of a matrix product at a time."""
MASKED = -1
"""In the place of a source: a position whose entries are left out."""


@dataclass(frozen=True, eq=False)
class _Arrangement:
    """How the entries of B were arranged when a product was added to the matrix."""

    rows: Indices
    sources: Sources


class CostMatrix:
    """The gains of one block from the segments in which all other blocks of its tree are free."""

    def __init__(
        self, objective: InnerProducts, name: str, parts: list[tuple[Occurrence, frozenset[str]]]
    ) -> None:
        self.objective = objective
        self.units = objective.symmetry.blocks[name].units
        self.parts = parts
        self._included: list[_Arrangement | None] = [None] * len(parts)
        terms = [objective.terms[occurrence.term].a for occurrence, _ in parts]
        double = any(a.dtype == torch.float64 for a in terms)
        self._dtype = torch.float64 if double else torch.float32
        self._device = objective.device
        self._matrix: torch.Tensor | None = None

    @property
    def matrix(self) -> torch.Tensor:
        """Shape ``(units, units)``, on the device of the weights."""
        if self._matrix is None:
            shape = (self.units, self.units)
            self._matrix = torch.zeros(shape, dtype=self._dtype, device=self._device)
        return self._matrix

    @property
    def nbytes(self) -> int:
        return self.units**2 * (8 if self._dtype == torch.float64 else 4)

    @property
    def is_kept(self) -> bool:
        """Has it been computed, and not been forgotten since?"""
        return self._matrix is not None

    def forget(self) -> None:
        """Free the matrix; the next update computes it afresh."""
        self._matrix = None
        self._included = [None] * len(self.parts)

    def update(
        self,
        indices: Mapping[str, Indices],
        sources: list[Sources],
        terms: set[int],
    ) -> bool:
        """Include exactly ``terms``, permuted by ``indices``; True if that changed anything.

        Entries whose source is :data:`MASKED` are left out, on one other axis of a tensor.
        """
        changed = False
        for k, (occurrence, free) in enumerate(self.parts):
            old, new = self._included[k], None
            if occurrence.term in terms:
                rows = self.objective.rows(indices, occurrence, free)
                new = _Arrangement(
                    free_first(rows, occurrence.segment, free), sources[occurrence.term]
                )
            changed |= self._replace(occurrence, free, old, new)
            self._included[k] = new
        return changed

    def _replace(
        self,
        occurrence: Occurrence,
        free: frozenset[str],
        old: _Arrangement | None,
        new: _Arrangement | None,
    ) -> bool:
        place = free_first(occurrence.segment.positions, occurrence.segment, free)
        if old is not None and new is not None:
            along = self._moved_groups(occurrence, old, new)
            if not along and np.array_equal(old.rows, new.rows):
                return False
            masked = [self._masked_group(occurrence, side) for side in (old, new)]
            if (
                len(along) == 1
                and np.array_equal(old.rows, new.rows)
                and {*masked} <= {None, along[0]}
            ):
                where = np.flatnonzero(old.sources[along[0]] != new.sources[along[0]])
                self._add(occurrence, place, new, along[0], where, minus=old)
                return True
        for side, sign in ((old, -1.0), (new, 1.0)):
            if side is not None:
                group = self._masked_group(occurrence, side)
                along_group = self._widest_group(occurrence) if group is None else group
                self._add(occurrence, place, side, along_group, None, sign=sign)
        return old is not None or new is not None

    def _moved_groups(
        self, occurrence: Occurrence, old: _Arrangement, new: _Arrangement
    ) -> list[int]:
        return [
            g
            for g in range(len(new.sources))
            if g != occurrence.group and not np.array_equal(old.sources[g], new.sources[g])
        ]

    def _masked_group(self, occurrence: Occurrence, arranged: _Arrangement) -> int | None:
        """The other axis on which positions are masked, if there is one."""
        others = (g for g in range(len(arranged.sources)) if g != occurrence.group)
        return next((g for g in others if (arranged.sources[g] == MASKED).any()), None)

    def _widest_group(self, occurrence: Occurrence) -> int | None:
        sizes = self.objective.terms[occurrence.term].a.shape
        others = [g for g in range(len(sizes) - 1) if g != occurrence.group]
        return max(others, key=lambda g: sizes[g], default=None)

    def _add(
        self,
        occurrence: Occurrence,
        place: Indices,
        arranged: _Arrangement,
        along: int | None,
        where: Indices | None,
        *,
        minus: _Arrangement | None = None,
        sign: float = 1.0,
    ) -> None:
        """Add the product over the positions ``where`` (all by default) of one other axis, with
        the entries of B that ``arranged`` brings there, less those that ``minus`` brought there.
        """
        term, own = self.objective.terms[occurrence.term], occurrence.group
        sign *= term.weight
        if along is None:
            a = select(term.a, own, place.ravel())
            b = select(term.b, own, arranged.rows.ravel())
            self._multiply(a.movedim(own, 0), b.movedim(own, 0), sign)
            return
        where = np.arange(term.a.shape[along]) if where is None else where
        step = max(ENTRIES * term.a.shape[along] // max(term.a.numel(), 1), 1)
        for begin in range(0, len(where), step):
            part = where[begin : begin + step]
            a = select(select(term.a, along, part), own, place.ravel())
            b = self._gathered(occurrence, arranged, along, part)
            if minus is not None:
                b = b - self._gathered(occurrence, minus, along, part)
            self._multiply(a.movedim(own, 0), b.movedim(own, 0), sign)

    def _gathered(
        self, occurrence: Occurrence, arranged: _Arrangement, along: int, part: Indices
    ) -> torch.Tensor:
        source = arranged.sources[along][part]
        b = select(self.objective.terms[occurrence.term].b, along, source.clip(0))
        b = select(b, occurrence.group, arranged.rows.ravel())
        if (source == MASKED).any():
            known = torch.from_numpy(source != MASKED).to(b.device)
            b = b * known.reshape([-1 if d == along else 1 for d in range(b.ndim)])
        for g, source in enumerate(arranged.sources):
            if g not in (along, occurrence.group):
                b = select(b, g, source)
        return b

    def _multiply(self, a: torch.Tensor, b: torch.Tensor, sign: float) -> None:
        left, right = a.reshape(self.units, -1), b.reshape(self.units, -1)
        left, right = left.to(self._dtype), right.to(self._dtype)
        self.matrix.addmm_(left, right.T, alpha=sign)
