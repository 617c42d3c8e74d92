"""One step of the descent: the best permutation of a tree of nested blocks, all else fixed.

From the inside out, for every pair of parents the best assignment of their children is found, and
what it gains joins the gains of pairing the parents. Siblings that share a tensor (the rows and
columns of a grouped convolution inside its groups) are solved in turn, each hearing the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from .assignment import assign
from .objectives import Occurrence, WeightMatching
from .permutation import Permutation

Gains = NDArray[np.floating]
Indices = NDArray[np.int64]


@dataclass(eq=False)
class Tree:
    """A block without parent, and all blocks nested in it, children before parents."""

    root: str
    names: tuple[str, ...]
    terms: list[int]
    seen: int = -1
    """The step after which the terms were last found to be optimal for this tree."""


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
            solved = assign(coupled.reshape(q * q, n, n), name=f"gains of block {name}")
            self.tables[name] = solved.columns.numpy().reshape(q, q, n)
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
