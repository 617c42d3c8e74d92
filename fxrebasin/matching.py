"""Block coordinate descent: align the units of B with those of A, block by block.

Blocks that are nested in one another (heads and the features inside them, groups and the channels
inside them) are solved together, from the inside out: for every pair of parents the best
assignment of their children is found first, and what it gains joins the gains of pairing the
parents. A step is kept only when the true objective rose: a block on two axes of one tensor makes
the step a linearisation, and so do siblings that share a tensor.

Source: S. Ainsworth, J. Hayase and S. Srinivasa, "Git Re-Basin", ICLR 2023, algorithm 1,
extended to nested blocks.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from tqdm.auto import tqdm

from .errors import ConvergenceWarning, InvalidArgumentError
from .objectives import WeightMatching
from .permutation import Permutation
from .symmetry import Symmetry
from .tree_solver import Tree, TreeSolver

RELATIVE_GAIN = 1e-9
"""A step must raise the objective by more than this share of the terms it touches, or rounding
could make the descent cycle."""


@dataclass(frozen=True)
class Alignment:
    """The result of aligning model B with model A."""

    permutation: Permutation
    objective_before: float
    objective_after: float
    history: tuple[float, ...]
    """The objective after each sweep."""
    converged: bool
    seconds: float

    @property
    def sweeps(self) -> int:
        return len(self.history)

    def __str__(self) -> str:
        state = "converged" if self.converged else "stopped at the limit"
        return (
            f"objective {self.objective_before:,.4f} -> {self.objective_after:,.4f} "
            f"in {self.sweeps} sweeps, {state}, {self.seconds:.1f} s; {self.permutation!r}"
        )


def weight_matching(
    symmetry: Symmetry,
    state_dict: Mapping[str, torch.Tensor],
    *,
    to: Mapping[str, torch.Tensor],
    seed: int = 0,
    max_sweeps: int = 100,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Alignment:
    """Find the permutation of ``state_dict`` (B) whose weights are closest to those of ``to`` (A).

    Args:
        symmetry: the group, as found by :func:`fxrebasin.analyze`.
        state_dict: the weights of B; not changed.
        to: the weights of A; not changed. float16 and bfloat16 are computed in float32.
        seed: of the order in which blocks are visited; the result is deterministic for a seed.
        max_sweeps: visits of every block before giving up.
        device: where to compute cost matrices; by default where A is.
        progress: show a progress bar.

    Raises:
        ArchitectureMismatchError, InvalidParameterError: see :class:`WeightMatching`.
        InvalidArgumentError: ``max_sweeps`` is not positive.

    Warns:
        ConvergenceWarning: the iteration limit was hit before a sweep changed nothing.
    """
    if max_sweeps < 1:
        raise InvalidArgumentError(f"max_sweeps must be at least 1, got {max_sweeps}")
    start = time.perf_counter()
    objective = WeightMatching(symmetry, state_dict, to, device=device)
    descent = _Descent(objective)
    before = descent.total
    descent.anchor()
    history: list[float] = []
    converged = False
    generator = np.random.default_rng(seed)
    with tqdm(total=None, desc="weight matching", disable=None if progress else True) as bar:
        while not converged and len(history) < max_sweeps:
            changed = False
            for k in generator.permutation(len(descent.trees)):
                changed |= descent.step(descent.trees[k])
                bar.update()
                bar.set_postfix(sweep=len(history) + 1, objective=f"{descent.total:.6g}")
            history.append(descent.total)
            converged = not changed
    if not converged:
        warnings.warn(
            f"weight matching stopped after {max_sweeps} sweeps, while blocks were still changing",
            ConvergenceWarning,
            stacklevel=2,
        )
    seconds = time.perf_counter() - start
    return Alignment(descent.permutation, before, descent.total, tuple(history), converged, seconds)


class _Descent:
    """The state of one run: a permutation, and the value of every term under it."""

    def __init__(self, objective: WeightMatching) -> None:
        self.objective = objective
        self.symmetry = objective.symmetry
        self.permutation = self.symmetry.identity()
        count = len(objective.terms)
        self.values = np.array([objective.value(self.permutation, t) for t in range(count)])
        self.changed_at = np.zeros(count, dtype=np.int64)
        self.clock = 0
        self.trees = [self._tree(block.name) for block in self.symmetry if block.parent is None]

    @property
    def total(self) -> float:
        return float(self.values.sum())

    def _tree(self, root: str) -> Tree:
        names = tuple(self._bottom_up(root))
        return Tree(root, names, self.objective.touched(set(names)))

    def _bottom_up(self, name: str) -> Iterator[str]:
        for child in self.symmetry.children(name):
            yield from self._bottom_up(child)
        yield name

    def anchor(self) -> None:
        """Start from what is certain: solve every tree once, those that share most with tensors
        already settled first, hearing only those. Kept if it is better than the start.
        """
        start, values = self.permutation, self.values
        sizes = np.array([term.a.numel() for term in self.objective.terms])
        settled: set[str] = set()
        remaining = list(self.trees)
        while remaining:
            heard = [self._settled_terms(tree, settled) for tree in remaining]
            shares = [
                sizes[h].sum() / max(sizes[t.terms].sum(), 1)
                for t, h in zip(remaining, heard, strict=True)
            ]
            k = int(np.argmax(shares))
            tree, terms = remaining.pop(k), heard[k]
            self.permutation = TreeSolver(self.objective, self.permutation, tree, terms).solve()
            settled.update(tree.names)
        self.values = np.array(
            [self.objective.value(self.permutation, t) for t in range(len(self.values))]
        )
        if self.values.sum() <= values.sum():
            self.permutation, self.values = start, values

    def _settled_terms(self, tree: Tree, settled: set[str]) -> list[int]:
        known = settled.union(tree.names)
        return [t for t in tree.terms if self.objective.terms[t].blocks <= known]

    def step(self, tree: Tree) -> bool:
        """Solve one tree of blocks; True if the objective rose."""
        if not tree.terms or self.changed_at[tree.terms].max() <= tree.seen:
            return False
        self.clock += 1
        candidate = TreeSolver(self.objective, self.permutation, tree, tree.terms).solve()
        risen = candidate != self.permutation and self._accept(tree, candidate)
        linear = not self._is_linearised(tree)
        if linear or not risen:
            tree.seen = self.clock
        return risen

    def _is_linearised(self, tree: Tree) -> bool:
        """Does some tensor hold blocks of the tree more than once?"""
        return len(tree.names) > 1 or any(
            sum(
                tree.root in s.blocks
                for g in self.objective.terms[t].parameter.groups
                for s in g.segments
            )
            > 1
            for t in tree.terms
        )

    def _accept(self, tree: Tree, candidate: Permutation) -> bool:
        values = np.array([self.objective.value(candidate, t) for t in tree.terms])
        old = self.values[tree.terms]
        gain = values.sum() - old.sum()
        if not gain > RELATIVE_GAIN * np.abs(old).sum():
            return False
        self.permutation = candidate
        self.values[tree.terms] = values
        self.changed_at[tree.terms] = self.clock
        return True
