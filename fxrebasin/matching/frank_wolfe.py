"""Frank-Wolfe on the relaxed problem: doubly stochastic matrices in the place of permutations.

All chosen blocks move at once, so it leaves optima in which each block alone is best. Every step
goes from the current matrices towards the permutations that the gradient prefers, as far as the
objective rises along that line; the end is rounded. One block that lies on two axes of a tensor
is solved in the same way, starting from where it is.

Sources: J. T. Vogelstein et al., "Fast Approximate Quadratic Programming for Graph Matching",
2015 (one block); D. Crisostomi et al., "C2M3", NeurIPS 2024, section 3 (all blocks).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ..assignment import Assignment, assign
from .inner_products import Indices, WeightMatching
from .relaxed import Relaxed, permutation_matrix
from .trees import Tree

ENOUGH = 1e-4
"""A step that can gain less than this share of the objective's size is the last."""


def frank_wolfe(
    objective: WeightMatching,
    indices: Mapping[str, Indices],
    trees: Sequence[Tree],
    *,
    steps: int = 20,
    spread: float = 0.0,
    is_over: Callable[[], bool] = lambda: False,
) -> dict[str, Indices]:
    """Better indices of the flat trees, all other blocks being where they are.

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
