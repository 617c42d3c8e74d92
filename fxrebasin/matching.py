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
from numpy.typing import NDArray
from tqdm.auto import tqdm

from .assignment import assign
from .errors import ConvergenceWarning, InvalidArgumentError
from .objectives import Occurrence, WeightMatching
from .permutation import Permutation
from .symmetry import Symmetry

Gains = NDArray[np.floating]
Indices = NDArray[np.int64]

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


@dataclass(eq=False)
class Tree:
    """A block without parent, and all blocks nested in it, children before parents."""

    root: str
    names: tuple[str, ...]
    terms: list[int]
    seen: int = -1
    """The step after which the terms were last found to be optimal for this tree."""


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


class TreeSolver:
    """The best permutation of one tree of nested blocks, everything else being fixed."""

    def __init__(
        self, objective: WeightMatching, permutation: Permutation, tree: Tree, terms: list[int]
    ) -> None:
        self.terms = set(terms)
        self.objective = objective
        self.permutation = permutation
        self.symmetry = permutation.symmetry
        self.tree = tree
        self.members = set(tree.names)
        self.linear = {name: self._zeros(name) for name in tree.names}
        self.bilinear: list[tuple[str, str, str, torch.Tensor, torch.Tensor]] = []
        self.tables: dict[str, Indices] = {}

    def _zeros(self, name: str) -> Gains:
        n = self.symmetry.blocks[name].units
        return np.zeros((n, n))

    def solve(self) -> Permutation:
        for name in self.tree.names:
            for occurrence in self.objective.occurrences[name]:
                if occurrence.term in self.terms:
                    self._collect(name, occurrence)
        for _ in range(2 if self.bilinear else 1):
            self._sweep()
        return self._chosen()

    def _collect(self, name: str, occurrence: Occurrence) -> None:
        """Add what one segment says to the gains of the innermost block it holds."""
        chains = self._chains(occurrence)
        if not chains or name != chains[0][-1]:
            return
        chain = chains[0]
        siblings = [c for c in chains[1:] if c[:-1] == chain[:-1] and c[-1] != chain[-1]]
        free = set(chain) | ({siblings[0][-1]} if siblings else set())
        a, b = self.objective.pair(self.permutation, occurrence, free)
        if siblings:
            parent = chain[-2]
            self.bilinear.append(
                (parent, chain[-1], siblings[0][-1], *self._ordered(occurrence, free, chain, a, b))
            )
        else:
            n = self.symmetry.blocks[name].units
            product = a.reshape(n, -1) @ b.reshape(n, -1).T
            self.linear[name] += product.cpu().numpy()

    def _chains(self, occurrence: Occurrence) -> list[tuple[str, ...]]:
        """The chains of nested blocks of this tree on a segment, outermost first."""
        segment = occurrence.segment
        inner = [
            d
            for d, name in enumerate(segment.blocks)
            if name in self.members and d not in segment.parents
        ]
        chains = []
        for d in inner:
            chain = []
            while d >= 0:
                chain.append(segment.blocks[d])
                d = segment.parents[d]
            chains.append(tuple(reversed(chain)))
        return chains

    def _ordered(
        self,
        occurrence: Occurrence,
        free: set[str],
        chain: tuple[str, ...],
        a: torch.Tensor,
        b: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Bring a pair with two sibling blocks to the shape (parents, first, second, rest)."""
        names = [name for name in occurrence.segment.blocks if name in free]
        order = [names.index(name) for name in chain]
        other = next(d for d in range(len(names)) if d not in order)
        parents = self.symmetry.blocks[chain[-1]].count
        sizes = (self.symmetry.blocks[chain[-1]].size, self.symmetry.blocks[names[other]].size)
        return tuple(  # type: ignore[return-value]
            x.permute(*order, other, len(names)).reshape(parents, *sizes, -1) for x in (a, b)
        )

    def _sweep(self) -> None:
        """Solve all blocks once, children first."""
        values: dict[str, Gains] = {}
        for name in self.tree.names:
            block = self.symmetry.blocks[name]
            gains = self.linear[name].copy()
            for child in self.symmetry.children(name):
                gains += values[child]
            q, n = block.count, block.size
            table = gains.reshape(q, n, q, n).transpose(0, 2, 1, 3)
            coupled = table + self._coupling(name)
            self.tables[name] = assign(coupled)
            last = self._is_last(name)
            chosen = np.take_along_axis(
                coupled if last else table, self.tables[name][..., None], -1
            )
            values[name] = chosen[..., 0].sum(axis=-1)

    def _is_last(self, name: str) -> bool:
        """Of two coupled blocks, only the one solved last counts what they share."""
        order = self.tree.names.index
        return all(
            order(name) >= max(order(first), order(second))
            for _, first, second, _, _ in self.bilinear
            if name in (first, second)
        )

    def _coupling(self, name: str) -> Gains | float:
        """What the siblings of a block say, given the assignments found for them so far."""
        total: Gains | float = 0.0
        for _, first, second, a, b in self.bilinear:
            if name == first:
                total = total + self._coupled(a, b, self.tables.get(second))
            elif name == second:
                total = total + self._coupled(
                    a.transpose(1, 2), b.transpose(1, 2), self.tables.get(first)
                )
        return total

    @staticmethod
    def _coupled(a: torch.Tensor, b: torch.Tensor, table: Indices | None) -> Gains | float:
        """Gains (parents, parents, n, n) with the siblings (third dimension) assigned."""
        if table is None:
            return 0.0
        q, n = a.shape[0], a.shape[1]
        result = np.empty((q, q, n, n))
        index = torch.from_numpy(table).to(a.device)
        left = a.reshape(q, n, -1)
        for k in range(q):
            moved = b.gather(2, index[k][:, None, :, None].expand(-1, n, -1, b.shape[3]))
            product = torch.einsum("ir,qjr->qij", left[k], moved.reshape(q, n, -1))
            result[k] = product.cpu().numpy()
        return result

    def _chosen(self) -> Permutation:
        """Read the permutation off the tables, parents first."""
        indices = dict(self.permutation.indices)
        flat: dict[str | None, Indices] = {None: np.zeros(1, dtype=np.int64)}
        for name in reversed(self.tree.names):
            block = self.symmetry.blocks[name]
            above = flat[block.parent]
            indices[name] = self.tables[name][np.arange(block.count), above]
            flat[name] = (above[:, None] * block.size + indices[name]).ravel()
        return Permutation(self.symmetry, indices)
