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

from .inner_products import Indices, Occurrence, Sources, WeightMatching, free_first, select

ENTRIES = 1 << 22
"""Of a tensor, how many are brought into the order of a matrix product at a time."""
HIDDEN = -1
"""In the place of a source: a position that is not heard."""


@dataclass(frozen=True, eq=False)
class _Heard:
    """The permutations that a contribution was computed with."""

    rows: Indices
    sources: Sources


class CostMatrix:
    """The gains of one block from the segments in which all other blocks of its tree are free."""

    def __init__(
        self, objective: WeightMatching, name: str, parts: list[tuple[Occurrence, frozenset[str]]]
    ) -> None:
        self.objective = objective
        self.units = objective.symmetry.blocks[name].units
        self.parts = parts
        self._heard: list[_Heard | None] = [None] * len(parts)
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
        self._heard = [None] * len(self.parts)

    def update(
        self,
        indices: Mapping[str, Indices],
        sources: list[Sources],
        terms: set[int],
    ) -> bool:
        """Hear exactly ``terms``, permuted by ``indices``; True if that changed anything.

        Entries whose source is :data:`HIDDEN` are left out, on one other axis of a tensor.
        """
        changed = False
        for k, (occurrence, free) in enumerate(self.parts):
            old, new = self._heard[k], None
            if occurrence.term in terms:
                rows = self.objective.rows(indices, occurrence, free)
                new = _Heard(free_first(rows, occurrence.segment, free), sources[occurrence.term])
            changed |= self._replace(occurrence, free, old, new)
            self._heard[k] = new
        return changed

    def _replace(
        self,
        occurrence: Occurrence,
        free: frozenset[str],
        old: _Heard | None,
        new: _Heard | None,
    ) -> bool:
        place = free_first(occurrence.segment.positions, occurrence.segment, free)
        if old is not None and new is not None:
            along = self._moved_groups(occurrence, old, new)
            if not along and np.array_equal(old.rows, new.rows):
                return False
            apart = [self._hidden_group(occurrence, heard) for heard in (old, new)]
            if (
                len(along) == 1
                and np.array_equal(old.rows, new.rows)
                and {*apart} <= {None, along[0]}
            ):
                where = np.flatnonzero(old.sources[along[0]] != new.sources[along[0]])
                self._add(occurrence, place, new, along[0], where, minus=old)
                return True
        for heard, sign in ((old, -1.0), (new, 1.0)):
            if heard is not None:
                hidden = self._hidden_group(occurrence, heard)
                along_group = self._widest_group(occurrence) if hidden is None else hidden
                self._add(occurrence, place, heard, along_group, None, sign=sign)
        return old is not None or new is not None

    def _moved_groups(self, occurrence: Occurrence, old: _Heard, new: _Heard) -> list[int]:
        return [
            g
            for g in range(len(new.sources))
            if g != occurrence.group and not np.array_equal(old.sources[g], new.sources[g])
        ]

    def _hidden_group(self, occurrence: Occurrence, heard: _Heard) -> int | None:
        """The other axis on which positions are not heard, if there is one."""
        others = (g for g in range(len(heard.sources)) if g != occurrence.group)
        return next((g for g in others if (heard.sources[g] == HIDDEN).any()), None)

    def _widest_group(self, occurrence: Occurrence) -> int | None:
        sizes = self.objective.terms[occurrence.term].a.shape
        others = [g for g in range(len(sizes) - 1) if g != occurrence.group]
        return max(others, key=lambda g: sizes[g], default=None)

    def _add(
        self,
        occurrence: Occurrence,
        place: Indices,
        heard: _Heard,
        along: int | None,
        where: Indices | None,
        *,
        minus: _Heard | None = None,
        sign: float = 1.0,
    ) -> None:
        """Add the product over the positions ``where`` (all by default) of one other axis, with
        the entries of B that ``heard`` brings there, less those that ``minus`` brought there.
        """
        term, own = self.objective.terms[occurrence.term], occurrence.group
        sign *= term.weight
        if along is None:
            a = select(term.a, own, place.ravel())
            b = select(term.b, own, heard.rows.ravel())
            self._multiply(a.movedim(own, 0), b.movedim(own, 0), sign)
            return
        where = np.arange(term.a.shape[along]) if where is None else where
        step = max(ENTRIES * term.a.shape[along] // max(term.a.numel(), 1), 1)
        for begin in range(0, len(where), step):
            part = where[begin : begin + step]
            a = select(select(term.a, along, part), own, place.ravel())
            b = self._gathered(occurrence, heard, along, part)
            if minus is not None:
                b = b - self._gathered(occurrence, minus, along, part)
            self._multiply(a.movedim(own, 0), b.movedim(own, 0), sign)

    def _gathered(
        self, occurrence: Occurrence, heard: _Heard, along: int, part: Indices
    ) -> torch.Tensor:
        source = heard.sources[along][part]
        b = select(self.objective.terms[occurrence.term].b, along, source.clip(0))
        b = select(b, occurrence.group, heard.rows.ravel())
        if (source == HIDDEN).any():
            known = torch.from_numpy(source != HIDDEN).to(b.device)
            b = b * known.reshape([-1 if d == along else 1 for d in range(b.ndim)])
        for g, source in enumerate(heard.sources):
            if g not in (along, occurrence.group):
                b = select(b, g, source)
        return b

    def _multiply(self, a: torch.Tensor, b: torch.Tensor, sign: float) -> None:
        left, right = a.reshape(self.units, -1), b.reshape(self.units, -1)
        left, right = left.to(self._dtype), right.to(self._dtype)
        self.matrix.addmm_(left, right.T, alpha=sign)
