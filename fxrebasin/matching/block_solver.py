"""Solve trees of blocks that share no tensor, and keep what the next visit can use.

Cost matrices are kept as long as they fit beside the models; prices and assignments always. Flat
trees with equally many units go to the assignment solver in one batch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ..assignment import Assignment, assign
from .inner_products import Indices, InnerProducts, Sources
from .tree_solver import TreeSolver
from .trees import trees_of

TOGETHER = 1 << 20
"""Entries of cost matrices that are copied into one batch; larger ones are solved one by one."""
TOGETHER_ON_DEVICE = 1 << 28
"""The same where an engine works on a batch at once."""


class BlockSolver:
    """The best permutations of trees of blocks, given those of all others."""

    def __init__(self, objective: InnerProducts) -> None:
        self.objective = objective
        self.trees = trees_of(objective)
        self._warm: list[Assignment | None] = [None] * len(self.trees)
        self.tables: list[dict[str, Tensor]] = [{} for _ in self.trees]
        """Per tree of nested blocks, what the last step found for every pair of parents."""
        self._kept = self._affordable(sum(2 * t.a.nbytes for t in objective.terms))

    def _affordable(self, budget: int) -> list[bool]:
        """Which trees may keep their cost matrices, small ones first."""
        kept = [False] * len(self.trees)
        for k in sorted(range(len(kept)), key=lambda k: self.trees[k].nbytes):
            budget -= self.trees[k].nbytes
            kept[k] = budget >= 0
        return kept

    def solve(
        self,
        numbers: Sequence[int],
        indices: Mapping[str, Indices],
        sources: list[Sources],
        included: Mapping[int, set[int]] | None = None,
        within: Collection[int] = (),
    ) -> Iterator[tuple[int, dict[str, Indices]]]:
        """The best indices of trees that share no tensor, one tree after another.

        Args:
            indices, sources: of all blocks and terms; they may change between two trees, as long
                as only trees that were returned move.
            included: per tree, the terms that its gains are computed from; all by default.
            within: trees, solved before, of which only the innermost blocks are to move.
        """
        waiting: dict[int, list[int]] = {}
        for k in numbers:
            tree = self.trees[k]
            terms = set(tree.terms) if included is None else included[k]
            costs = tree.costs.values()
            changed = [cost.update(indices, sources, terms) for cost in costs]
            if not tree.is_flat:
                tables = self.tables[k] if included is None else {}
                solver = TreeSolver(self.objective, indices, tree, terms, tables)
                found = solver.solve_within() if k in within else solver.solve()
                self.tables[k] = solver.tables
                yield k, found
                self.release(k)
            elif not changed[0] and self._warm[k] is not None:
                yield k, self._candidate(k)
            else:
                size = tree.costs[tree.root].units
                batch = waiting.setdefault(size, [])
                batch.append(k)
                on_device = tree.costs[tree.root].matrix.device.type != "cpu"
                limit = TOGETHER_ON_DEVICE if on_device else TOGETHER
                if (len(batch) + 1) * size**2 > limit:
                    yield from self._assigned(waiting.pop(size))
        for batch in waiting.values():
            yield from self._assigned(batch)

    def _assigned(self, batch: list[int]) -> Iterator[tuple[int, dict[str, Indices]]]:
        """Flat trees with equally many units."""
        trees = [self.trees[k] for k in batch]
        matrices = [tree.costs[tree.root].matrix for tree in trees]
        costs = matrices[0][None] if len(batch) == 1 else torch.stack(matrices)
        name = "the gains of " + ", ".join(repr(tree.root) for tree in trees)
        found = assign(costs, warm=_together([self._warm[k] for k in batch]), name=name)
        for k, one in zip(batch, _apart(found), strict=True):
            self._warm[k] = one
            yield k, self._candidate(k)
            self.release(k)

    def _candidate(self, k: int) -> dict[str, Indices]:
        warm = self._warm[k]
        assert warm is not None
        return {self.trees[k].root: warm.columns.cpu().numpy()}

    def forget_solution(self, k: int) -> None:
        """The cost matrix of a tree was brought up to date without solving it."""
        self._warm[k] = None

    def release(self, k: int) -> None:
        """Free the cost matrices of a tree, unless there is room for them."""
        if not self._kept[k]:
            for cost in self.trees[k].costs.values():
                cost.forget()


def _together(solutions: Sequence[Assignment | None]) -> Assignment | None:
    """Solutions of single problems as one of their batch; None unless all are known."""
    known = [one for one in solutions if one is not None]
    if len(known) < len(solutions):
        return None
    prices = [one.prices for one in known if one.prices is not None]
    return Assignment(
        torch.cat([one.columns for one in known]),
        torch.cat([one.value for one in known]),
        torch.cat(prices) if len(prices) == len(known) else None,
        None,
    )


def _apart(solved: Assignment) -> Iterator[Assignment]:
    for k in range(len(solved.columns)):
        one = slice(k, k + 1)
        prices = None if solved.prices is None else solved.prices[one]
        yield Assignment(solved.columns[one], solved.value[one], prices, None)
