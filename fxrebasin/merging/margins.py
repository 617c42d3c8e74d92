"""How sure an assignment is: what the objective would lose if two units exchanged their places.

For every unit of A, the least that is lost when the unit of B in its place changes places with
another one, all other blocks staying where they are. It is 0 where two units of B are alike, and
no unit can be told from its best rival; at an optimum of the block it is never negative.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..matching.inner_products import Indices, InnerProducts, Sources
from ..matching.swaps import swap_gains
from ..matching.transforms.acting import gains_at
from ..matching.trees import Tree, trees_of
from ..symmetry.action import flat_indices
from ..symmetry.permutation import Permutation
from ..symmetry.transform import Transform


def block_gains(objective: InnerProducts, permutation: Transform) -> dict[str, float]:
    """Per block without parent, what the objective would lose if that block, and what is nested in
    it, alone went back to where it is in B."""
    if permutation.signs or permutation.matrices:
        return gains_at(objective, permutation)
    indices = permutation.indices
    identity = Permutation.identity(objective.symmetry).indices
    sources = sources_of(objective, indices)
    found = {}
    for tree in trees_of(objective):
        back = {**indices, **{name: identity[name] for name in tree.names}}
        moved = objective.sources_after(tree.names, back, sources)
        found[tree.root] = -sum(objective.change(t, sources[t], s) for t, s in moved.items())
    return found


def exchange_losses(objective: InnerProducts, permutation: Transform) -> dict[str, Tensor]:
    """Per block, what every exchange of two units loses.

    Args:
        objective: what is compared.
        permutation: where the units of B are; it does nothing but permute.

    Returns:
        For each block that no other is nested in, a tensor of shape ``(count, size, size)``, of
        dtype float64 and on the processor: for every parent, what it loses to exchange what is in
        the places ``i`` and ``k``; 0 on the diagonal. Blocks are left out with which others would
        have to move as well: parents, siblings that share a tensor, and nested blocks that lie on
        two axes of one.
    """
    assert not permutation.signs and not permutation.matrices
    indices = permutation.indices
    sources = sources_of(objective, indices)
    found: dict[str, Tensor] = {}
    for tree in trees_of(objective):
        if tree.is_flat:
            if not _is_met_twice(objective, tree.root):
                tree.costs[tree.root].update(indices, sources, set(tree.terms))
                gains = swap_gains(objective, tree, indices[tree.root], sources)
                found[tree.root] = -gains.cpu()[None]
                tree.costs[tree.root].forget()
        elif not tree.bilinear:
            found.update(_within_parents(objective, tree, indices, sources))
    return found


def least_losses(losses: Tensor) -> Tensor:
    """Per unit, the least that an exchange loses, shape ``(count, size)``.

    >>> least_losses(torch.tensor([[[0.0, 2.0, 3.0], [2.0, 0.0, 1.0], [3.0, 1.0, 0.0]]]))
    tensor([[2., 1., 1.]])
    """
    alone = torch.eye(losses.shape[-1], dtype=torch.bool, device=losses.device)
    return losses.masked_fill(alone, torch.inf).amin(-1)


def sources_of(objective: InnerProducts, indices: Mapping[str, Indices]) -> list[Sources]:
    """Where the entries of every term come from."""
    return [objective.sources(indices, t) for t in range(len(objective.terms))]


def _is_met_twice(objective: InnerProducts, name: str) -> bool:
    """Does one segment hold the block on two of its dimensions?"""
    return any(o.segment.blocks.count(name) > 1 for o in objective.occurrences[name])


def _within_parents(
    objective: InnerProducts, tree: Tree, indices: Mapping[str, Indices], sources: list[Sources]
) -> dict[str, Tensor]:
    """The innermost blocks of a tree, all that they are nested in staying in place."""
    blocks = objective.symmetry.blocks
    shared = {name for c in tree.couplings for name in (c.chain[-1], c.sibling)}
    found = {}
    for name in tree.innermost:
        block = blocks[name]
        if name in shared or block.parent is None:
            continue
        cost = tree.costs[name]
        cost.update(indices, sources, set(tree.terms))
        q, n = block.count, block.size
        above = torch.from_numpy(flat_indices(blocks, indices, block.parent))
        gains = cost.matrix.reshape(q, n, q, n)[torch.arange(q), :, above]
        local = torch.from_numpy(indices[name]).to(gains.device)
        moved = gains.gather(2, local[:, None, :].expand(-1, n, -1)).to(torch.float64)
        own = moved.diagonal(dim1=1, dim2=2)
        found[name] = (own[:, :, None] + own[:, None, :] - (moved + moved.transpose(1, 2))).cpu()
        cost.forget()
    return found
