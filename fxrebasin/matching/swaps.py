"""Exchanges of two units of a block that lies on two axes of one tensor.

There the objective is quadratic in the block's permutation, and a linear assignment is no longer
its optimum. What every exchange of two units gains is known in closed form: the gradient's share,
and, with ``u = e_i - e_j``, the product of ``u' A u`` and ``u' B u`` for each pair of segments
that hold the block on both axes.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from .inner_products import Indices, InnerProducts, Occurrence, Sources, select
from .trees import Tree


def exchange(
    objective: InnerProducts, tree: Tree, indices: Indices, sources: list[Sources]
) -> list[Indices]:
    """Indices of the block after exchanges that gain: of all pairs of units that prefer each
    other most, and of the best pair alone, whose gain is exact.

    Args:
        tree: of one block; its cost matrix is up to date.
        indices: of the block, shape ``(1, n)``.
        sources: of every term, under ``indices``.
    """
    gains = swap_gains(objective, tree, indices, sources)
    best, partner = gains.max(dim=1)
    n = len(gains)
    first = torch.arange(n, device=gains.device)
    mutual = (partner[partner] == first) & (best > 0) & (first < partner)
    chosen = first[mutual].cpu().numpy()
    other = partner[mutual].cpu().numpy()
    if not len(chosen):
        return []
    top = int(best[mutual].argmax())
    sets = [(chosen, other), (chosen[top : top + 1], other[top : top + 1])]
    result = []
    for left, right in sets[: 2 if len(chosen) > 1 else 1]:
        moved = indices.copy()
        moved[0, left], moved[0, right] = indices[0, right], indices[0, left]
        result.append(moved)
    return result


def swap_gains(
    objective: InnerProducts, tree: Tree, indices: Indices, sources: list[Sources]
) -> Tensor:
    """What every exchange of two places gains, shape ``(n, n)``, float64; zero on the diagonal."""
    cost = tree.costs[tree.root].matrix
    moved = cost[:, torch.from_numpy(indices[0]).to(cost.device)].to(torch.float64)
    own = moved.diagonal()
    gains = moved + moved.T - (own[:, None] + own[None, :])
    for first, second in itertools.combinations(objective.occurrences[tree.root], 2):
        if first.term == second.term and first.group != second.group:
            sides = _square(objective, first, second, sources[first.term])
            a, b = (_exchanged(side) for side in sides)
            gains += objective.terms[first.term].weight * (a * b).sum(dim=-1)
    return gains


def _square(
    objective: InnerProducts, first: Occurrence, second: Occurrence, sources: Sources
) -> tuple[Tensor, Tensor]:
    """The entries of both models where the block meets itself, shape ``(n, n, rest)``."""
    term = objective.terms[first.term]
    b = term.b
    for g, source in enumerate(sources):
        b = select(b, g, source)
    sides = []
    for tensor in (term.a, b):
        for occurrence in (first, second):
            tensor = select(tensor, occurrence.group, occurrence.segment.positions.ravel())
        n, copies = len(first.segment.positions), second.segment.positions.shape
        tensor = tensor.movedim((first.group, second.group), (0, 1))
        tensor = tensor.reshape(n, -1, *copies, *tensor.shape[2:]).movedim(2, 1)
        sides.append(tensor.reshape(n, n, -1).to(torch.float64))
    return sides[0], sides[1]


def _exchanged(square: Tensor) -> Tensor:
    """``u' M u`` for every pair of units, shape ``(n, n, rest)``."""
    units = torch.arange(len(square), device=square.device)
    own = square[units, units]
    return own[:, None] + own[None, :] - (square + square.transpose(0, 1))
