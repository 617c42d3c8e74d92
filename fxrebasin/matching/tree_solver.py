"""One step of the descent: the best permutation of a tree of nested blocks, all else fixed.

From the inside out, for every pair of parents the best assignment of their children is found, and
what it gains joins the gains of pairing the parents. Siblings that share a tensor (the rows and
columns of a grouped convolution inside its groups) are solved in turn, each given the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ..assignment import assign
from ..symmetry.action import flat_indices
from ..symmetry.parts import Block
from .inner_products import Indices, InnerProducts, Occurrence
from .trees import Coupling, Tree

Pair = tuple[Tensor, Tensor]


class TreeSolver:
    """The best permutation of one tree of nested blocks, everything else being fixed.

    Args:
        tree: its cost matrices are up to date.
        terms: the terms that are included.
        tables: per block, where it puts its units for every pair of parents, as an earlier step
            found it: what siblings are first solved against.
    """

    def __init__(
        self,
        objective: InnerProducts,
        indices: Mapping[str, Indices],
        tree: Tree,
        terms: set[int],
        tables: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.objective = objective
        self.indices = indices
        self.blocks = objective.symmetry.blocks
        self.tree = tree
        self.tables: dict[str, Tensor] = dict(tables or {})
        self.bilinear: list[tuple[Coupling, Pair]] = [
            (coupling, self._shared_entries(coupling))
            for coupling in tree.couplings
            if coupling.occurrence.term in terms
        ]

    def solve(self) -> dict[str, Indices]:
        """The indices of the tree's blocks."""
        for _ in range(2 if self.bilinear and not self.tables else 1):
            self._sweep()
        return self._chosen()

    def solve_within(self) -> dict[str, Indices]:
        """The indices of the innermost blocks, while all that they are nested in stays in place."""
        found: dict[str, Indices] = {}
        for name in self.tree.innermost:
            block = self.blocks[name]
            q, n = block.count, block.size
            assert block.parent is not None
            parents = flat_indices(self.objective.symmetry.blocks, self.indices, block.parent)
            above = torch.from_numpy(parents)
            pairs = torch.arange(q), above
            gains = self.tree.costs[name].matrix.reshape(q, n, q, n)[pairs[0], :, pairs[1]]
            for sibling, (a, b) in self._couplings_of(name):
                local = torch.from_numpy({**self.indices, **found}[sibling]).to(b.device)
                moved = b[above].gather(2, local[:, None, :, None].expand(-1, n, -1, b.shape[3]))
                gains = gains + torch.einsum("qisr,qjsr->qij", a, moved)
            assigned = assign(gains, name=f"the gains of block {name!r}")
            found[name] = assigned.columns.cpu().numpy()
            self.tables[name][pairs] = assigned.columns
        return found

    def _couplings_of(self, name: str) -> Iterator[tuple[str, Pair]]:
        """The siblings that a block shares entries with, which have the block's units first."""
        for coupling, (a, b) in self.bilinear:
            first, second = coupling.chain[-1], coupling.sibling
            if name == first:
                yield second, (a, b)
            elif name == second:
                yield first, (a.transpose(1, 2), b.transpose(1, 2))

    def _shared_entries(self, coupling: Coupling) -> Pair:
        """The entries of both models on a shared segment, as (parents, first, second, rest)."""
        occurrence: Occurrence = coupling.occurrence
        free = {*coupling.chain, coupling.sibling}
        names = [name for name in occurrence.segment.blocks if name in free]
        order = [names.index(name) for name in coupling.chain]
        other = names.index(coupling.sibling)
        first, second = self.blocks[coupling.chain[-1]], self.blocks[coupling.sibling]
        shape = (first.count, first.size, second.size, -1)
        a, b = self.objective.pair(self.indices, occurrence, free)
        dims = (*order, other, len(names))
        return a.permute(dims).reshape(shape), b.permute(dims).reshape(shape)

    def _sweep(self) -> None:
        """Solve all blocks once, children first."""
        values: dict[str, Tensor] = {}
        for name in self.tree.names:
            block = self.blocks[name]
            gains = self.tree.costs[name].matrix
            for child in self.objective.symmetry.children(name):
                gains = gains + values[child]
            q, n = block.count, block.size
            table = gains.reshape(q, n, q, n).transpose(1, 2)
            coupled = table + self._coupling(block)
            assigned = assign(coupled.reshape(q * q, n, n), name=f"the gains of block {name!r}")
            self.tables[name] = assigned.columns.reshape(q, q, n)
            counted = coupled if self._is_last(name) else table
            chosen = counted.gather(-1, self.tables[name][..., None])
            values[name] = chosen.sum(dim=(-2, -1), dtype=torch.float64)

    def _is_last(self, name: str) -> bool:
        """Of two coupled blocks, only the one solved last counts what they share."""
        order = self.tree.names.index
        pairs = [(coupling.chain[-1], coupling.sibling) for coupling, _ in self.bilinear]
        return all(order(name) >= max(map(order, pair)) for pair in pairs if name in pair)

    def _coupling(self, block: Block) -> Tensor | float:
        """The gains of a block from the entries it shares with its siblings, as they lie so far."""
        total: Tensor | float = 0.0
        for sibling, (a, b) in self._couplings_of(block.name):
            if sibling in self.tables:
                total = total + _coupled(a, b, self.tables[sibling])
        return total

    def _chosen(self) -> dict[str, Indices]:
        """Read the permutation off the tables, parents first."""
        indices: dict[str, Indices] = {}
        flat: dict[str | None, Tensor] = {None: torch.zeros(1, dtype=torch.int64)}
        for name in reversed(self.tree.names):
            block = self.blocks[name]
            above = flat[block.parent]
            chosen = self.tables[name].cpu()[torch.arange(block.count), above]
            flat[name] = (above[:, None] * block.size + chosen).ravel()
            indices[name] = chosen.numpy()
        return indices


def _coupled(a: Tensor, b: Tensor, table: Tensor) -> Tensor:
    """Gains (parents, parents, n, n) with the siblings (the third dimension) assigned."""
    q, n, siblings, rest = a.shape
    left = a.reshape(q, n, siblings * rest)
    right = b.permute(0, 2, 3, 1).reshape(q * siblings, rest * n)
    begins = siblings * torch.arange(q, device=table.device)[:, None]
    result = torch.empty(q, q, n, n, dtype=a.dtype, device=a.device)
    for k in range(q):
        moved = right.index_select(0, (begins + table[k]).ravel())
        torch.matmul(left[k], moved.reshape(q, siblings * rest, n), out=result[k])
    return result
