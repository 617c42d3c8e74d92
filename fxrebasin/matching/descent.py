"""Block coordinate descent: the state of one run, and what a step does to it.

Blocks that are nested in one another are solved together (:mod:`.tree_solver`), and trees
of blocks that share no tensor at once. A step is kept only when the true objective, in
float64, rose. Cost matrices and the prices of assignments are kept from visit to visit; a tree
none of whose neighbours moved costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ..assignment import assign
from ..symmetry.permutation import Permutation
from ..symmetry.transform import Transform
from .block_solver import BlockSolver
from .cost_matrices import MASKED
from .inner_products import Indices, InnerProducts, Sources
from .relaxed import maximise_relaxed
from .schedules import colours
from .swaps import exchange
from .trees import Tree, sharing

RELATIVE_GAIN = 1e-9
"""A step must raise the objective by more than this share of what it touches, or rounding could
make the descent cycle."""
CERTAIN_GAIN = 1e-3
"""A gain that is a larger share than this of the entries that it is read off is no rounding error
of a matrix product in float32."""
CERTAIN_GAIN_REDUCED = 1e-2
"""The same where PyTorch is told to multiply float32 as TF32 or bfloat16."""
QUADRATIC_STEPS = 10


class Descent:
    """A permutation, and what is known about every tree of blocks under it."""

    def __init__(self, objective: InnerProducts, indices: Mapping[str, Indices]) -> None:
        self.objective = objective
        self.symmetry = objective.symmetry
        self.solver = BlockSolver(objective)
        self.trees = self.solver.trees
        self.shared = sharing(self.trees)
        self._blocks = [
            [{name for s in group.segments for name in s.blocks} for group in term.moves.groups]
            for term in objective.terms
        ]
        self._values = np.zeros(len(objective.terms))
        self._clock, self._evaluated_at = 0, 0
        self.return_to(indices)

    def move_to(self, start: Transform) -> None:
        """Go on from another permutation."""
        self.return_to(start.indices)

    def return_to(self, indices: Mapping[str, Indices]) -> None:
        """Go on from other indices; cost matrices are brought up to date when needed."""
        terms = range(len(self.objective.terms))
        self.indices = dict(indices)
        self.sources: list[Sources] = [self.objective.sources(indices, t) for t in terms]
        self._clock += 1
        self._moved_at = np.full(len(terms), self._clock)
        self._seen_at = [0] * len(self.trees)
        self.evaluate()

    def evaluate(self) -> None:
        """Compute the objective exactly; between evaluations the gains of steps are added up."""
        for t in np.flatnonzero(self._moved_at > self._evaluated_at).tolist():
            self._values[t] = self.objective.value_at(t, self.sources[t])
        self._evaluated_at = self._clock
        self._clock += 1
        self.total = float(self._values.sum())

    @property
    def at(self) -> dict[str, Indices]:
        """What :meth:`return_to` comes back to."""
        return self.indices

    @property
    def permutation(self) -> Permutation:
        return Permutation(self.symmetry, self.indices)

    def sweep(self, order: Sequence[int], announce: Callable[[], None] = lambda: None) -> bool:
        """Visit every tree once; True if the objective rose."""
        risen = False
        for colour in colours(order, self.shared):
            risen |= self.visit(colour, announce)
        return risen

    def visit(self, numbers: Sequence[int], announce: Callable[[], None] = lambda: None) -> bool:
        """Solve trees that share no tensor; True if the objective rose.

        A tree of nested blocks that was solved before is first solved within its parents, which
        is far cheaper, and as a whole only where that gains nothing.
        """
        stale = [k for k in numbers if self._is_stale(k)]
        self._clock += 1
        risen = False
        within = {k for k in stale if self.solver.tables[k]}
        for k, candidate in self.solver.solve(stale, self.indices, self.sources, within=within):
            rose = self._accept(k, candidate)
            if not rose and k in within:
                within.remove(k)
                ((_, candidate),) = self.solver.solve([k], self.indices, self.sources)
                rose = self._accept(k, candidate)
            if not rose and self.trees[k].bilinear and self.trees[k].is_flat:
                rose = self._quadratic_step(k)
            if not (rose and (self.trees[k].bilinear or k in within)):
                self._seen_at[k] = self._clock
            risen |= rose
            announce()
        return risen

    def rebuild(
        self, numbers: Collection[int], announce: Callable[[], None] = lambda: None
    ) -> None:
        """Solve trees from nothing, one after another, as at the start of a descent.

        A tree is *settled* once it is solved. The tree that shares the largest part of its entries
        with settled ones is next, and its gains are computed from those entries alone: entries
        that depend on unsettled trees are masked. Meanwhile the objective may fall.
        """
        unsettled = set(numbers)
        shares: dict[int, float] = {}
        included: dict[int, dict[int, Sources]] = {}
        while unsettled:
            for k in unsettled - shares.keys():
                included[k] = self._settled_terms(k, unsettled)
                shares[k] = self._settled_share(k, included[k])
            best = max(shares.values())
            equal = [k for k in sorted(unsettled) if shares[k] == best]
            chosen = colours(equal, self.shared)[0]
            sources = list(self.sources)
            for k in chosen:
                for t, known in included[k].items():
                    sources[t] = known
            self._clock += 1
            terms = {k: set(included[k]) for k in chosen}
            for k, candidate in self.solver.solve(chosen, self.indices, sources, terms):
                self._put(k, candidate)
                if shares[k] == 1 and not self.trees[k].bilinear:
                    self._seen_at[k] = self._clock
                announce()
            unsettled.difference_update(chosen)
            for k in chosen:
                for other in (k, *self.shared[k]):
                    shares.pop(other, None)
        self.evaluate()

    def _settled_terms(self, k: int, unsettled: set[int]) -> dict[int, Sources]:
        """The terms of a tree with settled entries, and their sources with all others masked."""
        own = set(self.trees[k].names)
        unknown = {n for j in self.shared[k] if j in unsettled for n in self.trees[j].names} - own
        known = {t: self._masked(t, own, unknown) for t in self.trees[k].terms}
        return {t: sources for t, sources in known.items() if sources is not None}

    def _masked(self, t: int, own: set[str], unknown: set[str]) -> Sources | None:
        """The sources of a term with those of unknown blocks masked, on all axes but the tree's
        own. None if one axis is masked whole, or several in part."""
        groups = self.objective.terms[t].moves.groups
        blocks = self._blocks[t]
        holding = [g for g, names in enumerate(blocks) if names & own]
        result, partly = list(self.sources[t]), 0
        for g, group in enumerate(groups):
            if holding == [g] or not blocks[g] & unknown:
                continue
            source = result[g].copy()
            for segment in group.segments:
                if unknown.intersection(segment.blocks):
                    source[segment.positions] = MASKED
            result[g] = source
            partly += 1
            if partly > 1 or (source == MASKED).all():
                return None
        return tuple(result)

    def _settled_share(self, k: int, included: Mapping[int, Sources]) -> float:
        """Which share of a tree's entries is not masked."""
        entries = {t: self.objective.terms[t].a.numel() for t in self.trees[k].terms}
        known = (
            entries[t] * min(np.count_nonzero(s != MASKED) / max(len(s), 1) for s in included[t])
            for t in included
        )
        return float(sum(known) / max(sum(entries.values()), 1))

    def disturb(self, k: int, noise: float, generator: torch.Generator) -> None:
        """Solve a flat tree with noise on its gains, of a share of their deviation. The objective
        may fall."""
        tree = self.trees[k]
        cost = tree.costs[tree.root]
        cost.update(self.indices, self.sources, set(tree.terms))
        drawn = torch.randn(cost.matrix.shape, generator=generator).to(cost.matrix)
        noisy = cost.matrix + noise * cost.matrix.std() * drawn
        found = assign(noisy[None], name=f"the gains of block {tree.root!r}")
        self.solver.forget_solution(k)
        self.solver.release(k)
        self._clock += 1
        self._put(k, {tree.root: found.columns.cpu().numpy()})

    def hold_out(self, k: int, units: Indices) -> None:
        """Solve the neighbours of a flat tree with some of its units masked, and then place those
        units by the neighbours. The objective may fall.

        Neighbours that were fitted to where a unit is favour its staying there, which is what
        holds a descent in its optimum. Neighbours that were solved without the unit favour the
        place of the unit of A that is most like it.
        """
        tree = self.trees[k]
        root, (old,) = tree.root, self.indices[tree.root]
        for colour in colours(list(self.shared[k]), self.shared):
            self._clock += 1
            masked = self._with_masked(tree, units)
            for other, candidate in self.solver.solve(colour, self.indices, masked):
                self._put(other, candidate)
        cost = tree.costs[root]
        cost.update(self.indices, self.sources, set(tree.terms))
        rows, columns = (torch.from_numpy(i).to(cost.matrix.device) for i in (units, old[units]))
        found = assign(cost.matrix[rows][:, columns][None], name=f"the gains of block {root!r}")
        new = old.copy()
        new[units] = old[units][found.columns[0].cpu().numpy()]
        self.solver.forget_solution(k)
        self.solver.release(k)
        self._clock += 1
        self._put(k, {root: new[None]})
        self.evaluate()

    def _with_masked(self, tree: Tree, units: Indices) -> list[Sources]:
        """The sources of all terms, with some units of a flat tree masked."""
        result = list(self.sources)
        for occurrence in self.objective.occurrences[tree.root]:
            t, g, segment = occurrence.term, occurrence.group, occurrence.segment
            masked = result[t][g].copy()
            d = segment.blocks.index(tree.root)
            masked[segment.positions.take(units, axis=d)] = MASKED
            result[t] = (*result[t][:g], masked, *result[t][g + 1 :])
        return result

    def gains(self) -> dict[str, float]:
        """Per root of a tree, what the objective would lose if the tree alone went back to where
        it is in B."""
        result = {}
        identity = Permutation.identity(self.symmetry).indices
        for k, tree in enumerate(self.trees):
            unmoved = {name: identity[name] for name in tree.names}
            cost = tree.costs[tree.root]
            if tree.is_flat and not tree.bilinear and cost.is_kept and not self._is_stale(k):
                read = _difference(cost.matrix, self.indices[tree.root], unmoved[tree.root])
                change = float(read[0])
            else:
                change = self._exact_gain(tree, unmoved)
            result[tree.root] = -change
        return result

    def _is_stale(self, k: int) -> bool:
        terms = self.trees[k].terms
        return bool(terms) and self._moved_at[[*terms]].max() > self._seen_at[k]

    def _accept(self, k: int, candidate: dict[str, Indices]) -> bool:
        """Take a step if the objective rises by more than rounding errors could pretend."""
        tree = self.trees[k]
        if all(np.array_equal(self.indices[name], found) for name, found in candidate.items()):
            return False
        gain = None if tree.bilinear or not tree.is_flat else self._certain_gain(tree, candidate)
        if gain is None:
            gain = self._exact_gain(tree, candidate)
            if not gain > RELATIVE_GAIN * np.abs(self._values[[*tree.terms]]).sum():
                return False
        self._put(k, candidate)
        self.total += gain
        return True

    def _quadratic_step(self, k: int) -> bool:
        """Where a block meets itself, the assignment is only a linearisation: look further."""
        tree = self.trees[k]
        relaxed = maximise_relaxed(self.objective, self.indices, [tree], steps=QUADRATIC_STEPS)
        if self._accept(k, relaxed):
            return True
        exchanged = exchange(self.objective, tree, self.indices[tree.root], self.sources)
        return any(self._accept(k, {tree.root: indices}) for indices in exchanged)

    def _certain_gain(self, tree: Tree, candidate: dict[str, Indices]) -> float | None:
        """Read off the cost matrix, which is exact but for rounding; None if that is too much."""
        matrix = tree.costs[tree.root].matrix
        gain, scale = _difference(matrix, self.indices[tree.root], candidate[tree.root])
        return float(gain) if gain > certain_gain(matrix.device) * scale else None

    def _exact_gain(self, tree: Tree, candidate: dict[str, Indices]) -> float:
        after = {**self.indices, **candidate}
        moved = self.objective.sources_after(candidate.keys(), after, self.sources)
        return sum(self.objective.change(t, self.sources[t], new) for t, new in moved.items())

    def _put(self, k: int, candidate: dict[str, Indices]) -> None:
        self.indices = {**self.indices, **candidate}
        for t, new in self.objective.sources_after(
            candidate.keys(), self.indices, self.sources
        ).items():
            self.sources[t] = new
        self._moved_at[[*self.trees[k].terms]] = self._clock


def certain_gain(device: torch.device) -> float:
    """Which share of the entries it is read off a gain must be, as precise as products are."""
    backend = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    full = backend.matmul.fp32_precision in ("none", "ieee")
    return CERTAIN_GAIN if full else CERTAIN_GAIN_REDUCED


def _difference(matrix: Tensor, old: Indices, new: Indices) -> Tensor:
    """What a block's new indices gain by its cost matrix, and the size of the entries read."""
    moved = np.flatnonzero(old[0] != new[0])
    sides = (moved, old[0, moved], new[0, moved])
    rows, *columns = (torch.from_numpy(side).to(matrix.device) for side in sides)
    before, after = (matrix[rows, c].to(torch.float64) for c in columns)
    return torch.stack([(after - before).sum(), (after.abs() + before.abs()).sum()])
