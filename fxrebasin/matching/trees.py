"""Trees of nested blocks, the units of work of a descent, and which of them share a tensor.

Blocks that are nested in one another (heads and the features inside them, groups and the channels
inside them) form a tree and are solved together. Trees that share no tensor do not depend on each
other: whole colours of their graph are solved at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import networkx as nx

from ..symmetry.group import Symmetry
from .cost_matrices import CostMatrix
from .inner_products import InnerProducts, Occurrence

Chain = tuple[str, ...]
"""Nested blocks, outermost first."""


@dataclass(frozen=True)
class Coupling:
    """A segment that two sibling blocks share: the rows and columns of a grouped kernel."""

    occurrence: Occurrence
    chain: Chain
    sibling: str


@dataclass(eq=False)
class Tree:
    """A block without parent, and all blocks nested in it, children before parents."""

    root: str
    names: tuple[str, ...]
    terms: tuple[int, ...]
    costs: dict[str, CostMatrix]
    """Per block, the gains from the segments of which it is the innermost block."""
    couplings: tuple[Coupling, ...]
    innermost: tuple[str, ...]
    """The nested blocks in which no others are nested."""
    bilinear: bool
    """Some tensor holds blocks of the tree on two of its axes: cost matrices are gradients."""

    @property
    def is_flat(self) -> bool:
        return len(self.names) == 1

    @property
    def nbytes(self) -> int:
        return sum(cost.nbytes for cost in self.costs.values())


def trees_of(objective: InnerProducts) -> list[Tree]:
    """All trees, in the order of the blocks."""
    return [_tree(objective, block.name) for block in objective.symmetry if block.parent is None]


def sharing(trees: Sequence[Tree]) -> nx.Graph:
    """The graph of trees, by number, with an edge where two share a tensor."""
    graph = nx.Graph()
    graph.add_nodes_from(range(len(trees)))
    of_term: dict[int, list[int]] = {}
    for k, tree in enumerate(trees):
        for t in tree.terms:
            of_term.setdefault(t, []).append(k)
    for members in of_term.values():
        graph.add_edges_from((a, b) for a in members for b in members if a < b)
    return graph


def _tree(objective: InnerProducts, root: str) -> Tree:
    names = tuple(_bottom_up(objective.symmetry, root))
    parts: dict[str, list[tuple[Occurrence, frozenset[str]]]] = {name: [] for name in names}
    couplings: list[Coupling] = []
    for name in names:
        for occurrence in objective.occurrences[name]:
            chains = _chains(occurrence, set(names))
            if not chains or name != chains[0][-1]:
                continue
            chain = chains[0]
            siblings = [c for c in chains[1:] if c[:-1] == chain[:-1] and c[-1] != chain[-1]]
            if siblings:
                couplings.append(Coupling(occurrence, chain, siblings[0][-1]))
            else:
                parts[name].append((occurrence, frozenset(chain)))
    terms = tuple(objective.touched(set(names)))
    costs = {name: CostMatrix(objective, name, parts[name]) for name in names}
    parents = {objective.symmetry.blocks[name].parent for name in names}
    innermost = tuple(name for name in names if name != root and name not in parents)
    bilinear = _is_bilinear(objective, names, terms)
    return Tree(root, names, terms, costs, tuple(couplings), innermost, bilinear)


def _bottom_up(symmetry: Symmetry, name: str) -> Iterator[str]:
    for child in symmetry.children(name):
        yield from _bottom_up(symmetry, child)
    yield name


def _chains(occurrence: Occurrence, members: set[str]) -> list[Chain]:
    """The chains of nested blocks of a tree on a segment."""
    segment = occurrence.segment
    chains = []
    for d, name in enumerate(segment.blocks):
        if name in members and d not in segment.parents:
            chain = []
            while d >= 0:
                chain.append(segment.blocks[d])
                d = segment.parents[d]
            chains.append(tuple(reversed(chain)))
    return chains


def _is_bilinear(objective: InnerProducts, names: tuple[str, ...], terms: tuple[int, ...]) -> bool:
    members = set(names)
    for t in terms:
        groups = objective.terms[t].moves.groups
        holding = [g for g in groups if any(members & set(s.blocks) for s in g.segments)]
        twice = any(
            len(_chains(Occurrence(t, 0, s), members)) > 1 for g in groups for s in g.segments
        )
        if len(holding) > 1 or twice:
            return True
    return False
