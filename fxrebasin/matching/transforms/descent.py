"""Block coordinate descent over the whole group: the state of one run, and what a step does to it.

As :mod:`fxrebasin.matching.descent`, for blocks that change signs or are rotated as well. A step is
kept only when the true objective, in float64, rose.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np
import torch

from ...symmetry.elements import Elements, still
from ...symmetry.permutation import Permutation
from ...symmetry.transform import Transform
from ..inner_products import InnerProducts, Term
from ..trees import Tree, trees_of
from .acting import Acting
from .groups import Step
from .tree_step import Move, best_of_tree, best_within

RELATIVE_GAIN = {False: 1e-9, True: 1e-12}
"""A step must raise the objective by more than this share of what it touches, or rounding could
make the descent cycle; less where all is computed in float64."""
CLOSE = 5e-4
"""A sweep that brings models closer by a smaller share of their squared distance is the last:
rotations of neighbours converge towards an optimum without reaching it. Of transformers of 3 layers
ten times as strict a limit takes three times as many sweeps, and the loss half way is the same."""
PULLS = (0.1, 0.3, 1.0)
"""Where a block meets itself and its gradient leads downhill, how strongly it is held back."""


class TransformDescent:
    """An element of the group, and what is known about every tree of blocks under it.

    Args:
        objective: what is maximised.
        steps: the blocks of which more than permutations is searched.
        frozen: blocks without parent that stay, with what is nested in them, where they are.
    """

    def __init__(
        self, objective: InnerProducts, steps: Mapping[str, Step], frozen: Collection[str] = ()
    ) -> None:
        self.objective = objective
        self.symmetry = objective.symmetry
        self.acting = Acting(objective, steps, condense=True)
        self.trees = [tree for tree in trees_of(objective) if tree.terms]
        self.frozen = {k for k, tree in enumerate(self.trees) if tree.root in frozen}
        self._values = np.zeros(len(objective.terms))
        self.limit = sum(_half_squares(term) for term in objective.terms)
        """What the objective would be if nothing were left between both models."""
        self._valued: Elements | None = None
        """Where all of ``_values`` are from."""
        self.move_to(Permutation.identity(self.symmetry))

    def move_to(self, at: Transform) -> None:
        """Go on from another element, or, where it scales units, from the nearest that does not."""
        self.return_to(_compact(self.acting, at))

    def return_to(self, at: Elements) -> None:
        """Go on from where this descent has been before."""
        self.at = at
        self._clock = 1
        self._moved_at = np.ones(len(self.objective.terms), dtype=np.int64)
        self._seen_at = [0] * len(self.trees)
        self.evaluate()

    def evaluate(self) -> None:
        """Compute the objective exactly, as every step but those of :meth:`rebuild` does."""
        if self._valued is None:
            self._evaluate(range(len(self.objective.terms)))
        else:
            self._evaluate(self.objective.touched(_moved_between(self._valued, self.at)))

    def scatter(self, generator: torch.Generator) -> None:
        """Go on from a random element; what is frozen stays."""
        drawn = Transform.random(self.symmetry, generator, group=self.objective.group)
        stay = {name for k in self.frozen for name in self.trees[k].names}
        self.return_to(_with(self.at, stay, _compact(self.acting, drawn)))

    def _evaluate(self, terms: Collection[int]) -> None:
        for t in terms:
            self._values[t] = self.acting.value(t, self.at)
        self._valued = self.at
        self.total = float(self._values.sum())

    @property
    def permutation(self) -> Transform:
        """Where it is: a transform, or a permutation, if it is one."""
        matrices = self.at.matrices
        kept = {name: m for name, m in matrices.items() if not _is_permuted(m)}
        moved = {n: m.argmax(2).numpy() for n, m in matrices.items() if n not in kept}
        indices = {**self.at.indices, **moved}
        signs = {name: s for name, s in self.at.signs.items() if s.any()}
        if not signs and not kept:
            return Permutation(self.symmetry, indices)
        return Transform(self.symmetry, indices, signs, {}, kept)

    def sweep(self, order: Sequence[int], announce: Callable[[], None] = lambda: None) -> bool:
        """Visit every tree once; True if the objective rose by enough for another sweep."""
        before, risen = self.total, False
        for k in order:
            if k not in self.frozen:
                risen |= self.visit(k)
                announce()
        return risen and self.total - before > CLOSE * (self.limit - self.total)

    def visit(self, k: int) -> bool:
        """Solve one tree; True if the objective rose."""
        tree = self.trees[k]
        if self._moved_at[[*tree.terms]].max() <= self._seen_at[k]:
            return False
        self._clock += 1
        rose = any(self._accept(tree, move) for move in self._proposals(tree))
        if not (rose and (tree.bilinear or tree.couplings)):
            self._seen_at[k] = self._clock
        return rose

    def _proposals(self, tree: Tree) -> Iterator[Move]:
        """Moves of a tree, the most promising first; each is made when those before have failed."""
        yield from _only(best_of_tree(self.acting, self.at, tree))
        if tree.bilinear and tree.is_flat:
            for pull in PULLS:
                yield from _only(best_of_tree(self.acting, self.at, tree, pull=pull))
        for name in tree.innermost:
            yield best_within(self.acting, self.at, tree, name)

    def _accept(self, tree: Tree, move: Move) -> bool:
        """Take a step if the objective rises by more than rounding errors could pretend."""
        before, known = self.at, self._values.copy()
        self._put(tree, move)
        touched = [*tree.terms]
        gain = self._values[touched].sum() - known[touched].sum()
        is_wide = all(self.acting.is_wide[t] for t in touched)
        if gain > RELATIVE_GAIN[is_wide] * np.abs(known[touched]).sum():
            self._moved_at[touched] = self._clock
            return True
        self.at, self._valued, self._values = before, before, known
        self.total = float(known.sum())
        return False

    def _put(self, tree: Tree, move: Move) -> None:
        self.at = move.of(self.at)
        self._evaluate(tree.terms)

    def rebuild(
        self, numbers: Collection[int], announce: Callable[[], None] = lambda: None
    ) -> None:
        """Solve trees from nothing, one after another, as at the start of a descent.

        The tree that shares the largest part of its entries with what is settled is next, and its
        gains are computed from those entries alone. Meanwhile the objective may fall.
        """
        unsettled = {k for k in numbers if k not in self.frozen}
        while unsettled:
            names = {name for k in unsettled for name in self.trees[k].names}
            shares = {k: self._settled_share(k, names) for k in sorted(unsettled)}
            k = max(shares, key=lambda k: shares[k])
            tree = self.trees[k]
            move = best_of_tree(self.acting, self.at, tree, unknown=names)
            if move is None:
                move = best_of_tree(self.acting, self.at, tree, unknown=names - {*tree.names})
            if move is not None:
                self.at = move.of(self.at)
            unsettled.remove(k)
            announce()
        self.return_to(self.at)

    def _settled_share(self, k: int, unsettled: Collection[str]) -> float:
        """Which share of a tree's entries depends on no block that is not settled."""
        tree, known, total = self.trees[k], 0.0, 0.0
        for t in tree.terms:
            term = self.acting.terms[t]
            share = 1.0
            for g, group in enumerate(term.moves.groups):
                names = [{*s.blocks} for s in group.segments]
                if any(n & {*tree.names} for n in names):
                    continue
                hidden = sum(
                    s.positions.size
                    for s, n in zip(group.segments, names, strict=True)
                    if n & {*unsettled}
                )
                share *= 1 - hidden / term.a.shape[g]
            known += share * term.a.numel()
            total += term.a.numel()
        return known / max(total, 1.0)

    def gains(self) -> dict[str, float]:
        """Per root of a tree, what the objective would lose if the tree alone went back to where
        it is in B."""
        roots = [b.name for b in self.symmetry if b.parent is None]
        found = {tree.root: self.acting.gain_of(tree, self.at) for tree in self.trees}
        return {name: found.get(name, 0.0) for name in roots}


def _half_squares(given: Term) -> float:
    """The most that the inner product of tensors of these norms can be."""
    a, b = (torch.linalg.vector_norm(x, dtype=torch.float64) for x in (given.a, given.b))
    return given.weight * float(a.square() + b.square()) / 2


def _moved_between(one: Elements, other: Elements) -> set[str]:
    """The blocks of which two elements have different parts."""
    pairs = zip(one, other, strict=True)
    return {n for a, b in pairs for n in a.keys() | b.keys() if a.get(n) is not b.get(n)}


def _only(move: Move | None) -> Iterator[Move]:
    if move is not None:
        yield move


def _with(one: Elements, names: Collection[str], other: Elements) -> Elements:
    """Some blocks as in the first element, all others as in the second."""
    mixed = (
        {n: x for n, x in theirs.items() if n not in names}
        | {n: x for n, x in ours.items() if n in names}
        for ours, theirs in zip(one, other, strict=True)
    )
    return Elements(*mixed)  # type: ignore[arg-type]  # part by part, their types are the same


def _compact(acting: Acting, at: Transform) -> Elements:
    """An element with matrices, the nearest orthogonal ones, for all blocks that are rotated, and
    permutations alone for those that are only permuted."""
    indices, signs, matrices = dict(at.indices), {}, {}
    for name, step in acting.steps.items():
        if step == "signed" and name in at.signs:
            signs[name] = at.signs[name]
        if step == "orthogonal":
            block = acting.symmetry.blocks[name]
            if name in at.matrices:
                u, _, vh = torch.linalg.svd(at.matrices[name])
                matrices[name] = u @ vh
            elif (indices[name] != still(block)).any():
                moved = torch.from_numpy(indices[name])
                matrices[name] = torch.eye(block.size, dtype=torch.float64)[moved]
            indices[name] = still(block)
    return Elements(indices, signs, {}, matrices)


def _is_permuted(matrices: torch.Tensor) -> bool:
    """Do matrices nothing but permute?"""
    return bool(((matrices == 0) | (matrices == 1)).all())
