"""What two units have in common whatever permutation their neighbours take.

A unit's weights, sorted along the axes that other blocks permute, are its *signature*: no
permutation of the neighbours changes it. By the rearrangement inequality (Hardy, Littlewood and
Polya, "Inequalities", 1952, section 10.2) the inner product of two signatures is the largest that
any permutation of the neighbours allows, so assigning units by their signatures

* is a start that owes nothing to where the neighbours happen to be, and
* bounds what the best of all permutations can reach.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..assignment import assign
from ..symmetry.parts import AxisGroup, Segment
from .inner_products import Indices, InnerProducts, Term, select
from .trees import Tree


def match_signatures(objective: InnerProducts, tree: Tree) -> dict[str, Indices]:
    """The assignment of a flat tree's units by their signatures in all tensors that hold them."""
    n = objective.symmetry.blocks[tree.root].units
    gains: Tensor | float = 0.0
    for occurrence in objective.occurrences[tree.root]:
        if occurrence.segment.blocks == (tree.root,):
            gains = gains + _gains(
                objective.terms[occurrence.term], occurrence.group, n, occurrence.segment
            )
    if isinstance(gains, float):
        return {}
    found = assign(gains[None], name=f"the signatures of block {tree.root!r}")
    return {tree.root: found.columns.cpu().numpy()}


def upper_bound(objective: InnerProducts) -> float:
    """A number that the objective cannot exceed, whatever the permutation.

    Every tensor is looked at along one of its axes: there, the units of a flat block may take any
    places, and for every pair of units all other axes may be rearranged as suits that pair best.
    One sort of all weights, one matrix product per tensor and one assignment per block.
    """
    blocks = objective.symmetry.blocks
    parents = {block.parent for block in blocks.values()}
    flat = {b.name for b in blocks.values() if b.parent is None and b.name not in parents}
    gains: dict[str, Tensor] = {}
    total = 0.0
    for term in objective.terms:
        groups = term.moves.groups
        g = max(range(len(groups)), key=lambda g: _flat_entries(groups[g], flat))
        for segment in groups[g].segments:
            if _is_flat(segment, flat):
                (name,) = segment.blocks
                added = _gains(term, g, blocks[name].units, segment)
                gains[name] = gains[name] + added if name in gains else added
            else:
                total += _rearranged(term, g, segment)
    for name, matrix in gains.items():
        total += float(assign(matrix[None], name=f"the bound of block {name!r}").value)
    return total


def _is_flat(segment: Segment, flat: set[str]) -> bool:
    return len(segment.blocks) == 1 and segment.blocks[0] in flat


def _flat_entries(group: AxisGroup, flat: set[str]) -> int:
    return sum(s.positions.size for s in group.segments if _is_flat(s, flat))


def _gains(term: Term, group: int, n: int, segment: Segment) -> Tensor:
    sides = []
    for tensor in (term.a, term.b):
        rows = select(tensor, group, segment.positions.ravel()).movedim(group, 0)
        others = rows[0, ..., 0].numel()
        ordered = rows.reshape(n, -1, others, rows.shape[-1]).sort(dim=2).values
        sides.append(ordered.reshape(n, -1).to(torch.float64))
    return term.weight * (sides[0] @ sides[1].T)


def _rearranged(term: Term, group: int, segment: Segment) -> float:
    """The most that any rearrangement of a segment's entries allows; exact where none can move."""
    sides = [select(x, group, segment.positions.ravel()) for x in (term.a, term.b)]
    if segment.blocks or len(term.moves.groups) > 1:
        sides = [side.flatten(0, -2).sort(dim=0).values for side in sides]
    a, b = (side.to(torch.float64) for side in sides)
    return term.weight * float((a * b).sum())
