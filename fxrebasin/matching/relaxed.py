"""A sum of inner products as a function of doubly stochastic matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..symmetry.action import source_of
from .inner_products import Indices, Occurrence, WeightMatching, select
from .trees import Tree


def permutation_matrix(indices: Indices, like: Tensor) -> Tensor:
    n = indices.shape[-1]
    columns = torch.from_numpy(indices.reshape(n, 1)).to(like.device)
    return torch.zeros(n, n, dtype=like.dtype, device=like.device).scatter_(1, columns, 1.0)


class Relaxed:
    """The objective as a function of doubly stochastic matrices."""

    def __init__(
        self, objective: WeightMatching, indices: Mapping[str, Indices], trees: Sequence[Tree]
    ) -> None:
        self.objective = objective
        self.indices = indices
        self.names = [tree.root for tree in trees]
        self.terms = sorted({t for tree in trees for t in tree.terms})
        self.like = objective.terms[self.terms[0]].a
        self.size = sum(
            float(objective.terms[t].a.norm() * objective.terms[t].b.norm()) for t in self.terms
        )

    def value_at(self, corner: Mapping[str, Indices]) -> float:
        indices = {**self.indices, **corner}
        objective = self.objective
        return sum(objective.value_at(t, objective.sources(indices, t)) for t in self.terms)

    def value(self, weights: Mapping[str, Tensor]) -> float:
        total = 0.0
        for t in self.terms:
            term = self.objective.terms[t]
            moved = self._moved(t, weights)
            total += term.weight * float((term.a * moved).sum(dtype=torch.float64))
        return total

    def gradient(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        result = {name: torch.zeros_like(weights[name]) for name in self.names}
        for name in self.names:
            for occurrence in self.objective.occurrences[name]:
                self._add_gradient(result[name], name, occurrence, weights)
        return result

    def _add_gradient(
        self, total: Tensor, name: str, occurrence: Occurrence, weights: Mapping[str, Tensor]
    ) -> None:
        term, segment = self.objective.terms[occurrence.term], occurrence.segment
        moved = self._moved(occurrence.term, weights, still=(occurrence, name))
        for d in (d for d, other in enumerate(segment.blocks) if other == name):
            place = segment.positions.swapaxes(0, d)
            sides = (
                select(x, occurrence.group, place.ravel())
                .movedim(occurrence.group, 0)
                .reshape(len(total), -1)
                .to(total.dtype)
                for x in (term.a, moved)
            )
            left, right = sides
            total.addmm_(left, right.T, alpha=term.weight)

    def _moved(
        self,
        t: int,
        weights: Mapping[str, Tensor],
        still: tuple[Occurrence, str] | None = None,
    ) -> Tensor:
        """The tensor of B with every axis moved, but the block ``still`` on its own segment."""
        moved, parameter = self.objective.terms[t].b, self.objective.terms[t].parameter
        for g, group in enumerate(parameter.groups):
            source = source_of(
                self.objective.symmetry, self.indices, parameter, group, still=self.names
            )
            moved = select(moved, g, source)
            for segment in group.segments:
                for d, name in enumerate(segment.blocks):
                    own = still is not None and still[0].group == g and still[0].segment is segment
                    if name in weights and not (own and still is not None and still[1] == name):
                        moved = _mixed(moved, g, segment.positions.swapaxes(0, d), weights[name])
        return moved


def _mixed(tensor: Tensor, dim: int, place: Indices, weights: Tensor) -> Tensor:
    """Units along the first dimension of ``place``, positions along ``dim``, mixed by a matrix."""
    rows = torch.from_numpy(place.copy()).ravel().to(tensor.device)
    chosen = tensor.index_select(dim, rows).movedim(dim, 0)
    mixed = weights.to(tensor.dtype) @ chosen.reshape(len(weights), -1)
    return tensor.index_copy(dim, rows, mixed.reshape(chosen.shape).movedim(0, dim))
