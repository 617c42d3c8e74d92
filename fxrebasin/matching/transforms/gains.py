"""What every pair of units of a block gains, given where all other blocks are."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import torch
from torch import Tensor

from ...symmetry.action import flat_indices
from ...symmetry.elements import Elements
from ..inner_products import Occurrence
from ..trees import Tree
from .acting import Acting
from .steps import Pattern


def gains_of(
    acting: Acting, at: Elements, tree: Tree, name: str, unknown: Collection[str] = ()
) -> dict[Pattern, Tensor]:
    """By the signs that act, a matrix of shape ``(units, units)``, counted over all parents.

    Entry ``(i, j)`` is what it gains to put unit ``j`` of B in the place of unit ``i`` of A. It is
    linear in the block's element, and exact, unless the block meets itself in a tensor: then it is
    the gradient.

    Args:
        acting: how elements act.
        at: where all blocks are; what the tree's own blocks do counts only where they meet
            themselves, or a sibling.
        tree: the tree of the block.
        name: the block.
        unknown: blocks that do not count: entries that depend on them are left out.
    """
    units = acting.symmetry.blocks[name].units
    found: dict[Pattern, Tensor] = {}
    for occurrence, free, here in _parts(acting, at, tree, name):
        pair = acting.pair(here, occurrence, free, {*unknown})
        if pair is None:
            continue
        weight = acting.objective.terms[occurrence.term].weight
        for pattern, copies in _copies(acting, occurrence, name).items():
            a, b = (x[:, :, copies].reshape(units, -1) for x in pair)
            product = weight * (a @ b.mT)
            found[pattern] = found[pattern] + product if pattern in found else product
    if not found:
        wide = acting.steps.get(name) == "orthogonal"
        dtype = torch.float64 if wide else torch.float32
        found[()] = torch.zeros(units, units, dtype=dtype, device=acting.objective.device)
    return found


def _parts(
    acting: Acting, at: Elements, tree: Tree, name: str
) -> Iterator[tuple[Occurrence, frozenset[str], Elements]]:
    """The segments of which a block is the innermost of its tree, and those that it shares with a
    sibling, which stays with the unit of the parent that it is inside of."""
    for occurrence, free in tree.costs[name].parts:
        yield occurrence, free, at
    for coupling in tree.couplings:
        first, second = coupling.chain[-1], coupling.sibling
        if name in (first, second):
            sibling = second if name == first else first
            free = frozenset({*coupling.chain[:-1], name})
            yield coupling.occurrence, free, _beside_unmoved_parents(acting, at, sibling)


def _beside_unmoved_parents(acting: Acting, at: Elements, sibling: str) -> Elements:
    """Where a sibling's parents do not move, its elements are those of where they would go."""
    parent = acting.symmetry.blocks[sibling].parent
    assert parent is not None
    back = np.argsort(flat_indices(acting.symmetry.blocks, at.indices, parent))
    indices = {**at.indices, sibling: at.indices[sibling][back]}
    signs, matrices = dict(at.signs), dict(at.matrices)
    if sibling in signs:
        signs[sibling] = signs[sibling][:, back]
    if sibling in matrices:
        matrices[sibling] = matrices[sibling][torch.from_numpy(back)]
    return at._replace(indices=indices, signs=signs, matrices=matrices)


def _copies(acting: Acting, occurrence: Occurrence, name: str) -> dict[Pattern, list[int]]:
    """Which copies of a block on a segment its signs act on alike; those on which the element of a
    block that mixes does nothing are left out."""
    count = occurrence.segment.positions.shape[-1]
    step = acting.steps.get(name)
    if step is None:
        return {(): list(range(count))}
    factor = acting.factor(occurrence, name)
    found: dict[Pattern, list[int]] = {}
    for copy in range(count):
        if step == "signed":
            found.setdefault(factor.signs[copy], []).append(copy)
        elif factor.parity[copy]:
            found.setdefault((), []).append(copy)
    return found
