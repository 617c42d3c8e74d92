"""The objective on doubly stochastic matrices in the place of permutations, and its maximisation.

Sources: J. T. Vogelstein et al., "Fast Approximate Quadratic Programming for Graph Matching",
2015 (one block); D. Crisostomi et al., "C2M3", NeurIPS 2024, section 3 (all blocks).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ..assignment import Assignment, assign
from ..symmetry.action import source_of
from .inner_products import Indices, InnerProducts, Occurrence, select
from .trees import Tree

ENOUGH = 1e-4
"""A step that can gain less than this share of the objective's size is the last."""


def maximise_relaxed(
    objective: InnerProducts,
    indices: Mapping[str, Indices],
    trees: Sequence[Tree],
    *,
    steps: int = 20,
    spread: float = 0.0,
    is_over: Callable[[], bool] = lambda: False,
) -> dict[str, Indices]:
    """Find better indices of flat trees by Frank-Wolfe, all other blocks being where they are.

    All chosen blocks move at once. Every step goes from the current matrices towards the
    permutations that the gradient prefers, as far as the objective rises along that line.

    Args:
        indices: where to start, and where all other blocks are.
        trees: trees of one block each, with their terms.
        steps: at most so many; each costs as much as a sweep.
        spread: the share of the uniform matrix in the start, from 0 to 1.
        is_over: asked after every step whether to stop.

    Returns:
        The best indices that were met: of the directions taken, and of the end, rounded. They
        need not be better than the start.
    """
    problem = Relaxed(objective, indices, trees)
    weights = {
        tree.root: permutation_matrix(indices[tree.root], problem.like) * (1 - spread)
        + spread / objective.symmetry.blocks[tree.root].size
        for tree in trees
    }
    best: tuple[float, dict[str, Indices]] | None = None
    value = problem.value(weights)
    solved: dict[str, Assignment] = {}
    for _ in range(steps):
        gradient = problem.gradient(weights)
        solved = {name: _assigned(g, name, solved.get(name)) for name, g in gradient.items()}
        corner = {name: one.columns.cpu().numpy() for name, one in solved.items()}
        towards = {
            name: permutation_matrix(i, problem.like) - weights[name] for name, i in corner.items()
        }
        slope = sum(float((gradient[n] * towards[n]).sum(dtype=torch.float64)) for n in towards)
        there = problem.value_at(corner)
        if best is None or there > best[0]:
            best = (there, corner)
        if not slope > ENOUGH * problem.size:
            break
        share = _best_share(value, slope, there)
        value += share * slope + share**2 * (there - value - slope)
        weights = {name: w + share * towards[name] for name, w in weights.items()}
        if is_over():
            break
    end = {name: _assigned(w, name).columns.cpu().numpy() for name, w in weights.items()}
    if best is None or problem.value_at(end) >= best[0]:
        return end
    return best[1]


def _best_share(here: float, slope: float, there: float) -> float:
    """The highest point of the parabola through both ends, with that slope at the near one."""
    curvature = there - here - slope
    return 1.0 if curvature >= 0 else min(1.0, -slope / (2 * curvature))


def _assigned(matrix: Tensor, name: str, warm: Assignment | None = None) -> Assignment:
    return assign(matrix[None], warm=warm, name=f"the gradient of block {name!r}")


def permutation_matrix(indices: Indices, like: Tensor) -> Tensor:
    n = indices.shape[-1]
    columns = torch.from_numpy(indices.reshape(n, 1)).to(like.device)
    return torch.zeros(n, n, dtype=like.dtype, device=like.device).scatter_(1, columns, 1.0)


class Relaxed:
    """The objective as a function of doubly stochastic matrices."""

    def __init__(
        self, objective: InnerProducts, indices: Mapping[str, Indices], trees: Sequence[Tree]
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
        moved, moves = self.objective.terms[t].b, self.objective.terms[t].moves
        for g, group in enumerate(moves.groups):
            source = source_of(
                self.objective.symmetry.blocks, self.indices, moves, group, still=self.names
            )
            moved = select(moved, g, source)
            for segment in group.segments:
                for d, name in enumerate(segment.blocks):
                    own = still is not None and still[0].group == g and still[0].segment is segment
                    if name in weights and not (own and still is not None and still[1] == name):
                        moved = mixed(moved, g, segment.positions.swapaxes(0, d), weights[name])
        return moved


def mixed(tensor: Tensor, dim: int, place: Indices, weights: Tensor) -> Tensor:
    """Units along the first dimension of ``place``, positions along ``dim``, mixed by a matrix."""
    rows = torch.from_numpy(place.copy()).ravel().to(tensor.device)
    chosen = tensor.index_select(dim, rows).movedim(dim, 0)
    mixed = weights.to(tensor.dtype) @ chosen.reshape(len(weights), -1)
    return tensor.index_copy(dim, rows, mixed.reshape(chosen.shape).movedim(0, dim))
