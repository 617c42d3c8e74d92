"""One step of the descent over the whole group: the best elements of a tree of nested blocks.

From the inside out, as where only permutations are searched: for every pair of parents the best
elements of their children are found, and what they gain joins the gains of pairing the parents.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...symmetry.action import Indices, flat_indices
from ...symmetry.elements import Elements
from ..trees import Tree
from .acting import Acting
from .gains import gains_of
from .steps import Best, Gains, Pattern, permute, permute_signed, rotate


@dataclass(frozen=True, eq=False)
class Move:
    """Elements of some blocks."""

    indices: Mapping[str, Indices]
    signs: Mapping[str, NDArray[np.int8]]
    matrices: Mapping[str, Tensor]
    """On the CPU."""

    def of(self, at: Elements) -> Elements:
        """Where all blocks are afterwards."""
        return Elements(
            {**at.indices, **self.indices},
            {**at.signs, **self.signs},
            {},
            {**at.matrices, **self.matrices},
        )


def best_of_tree(
    acting: Acting, at: Elements, tree: Tree, *, unknown: Collection[str] = (), pull: float = 0.0
) -> Move | None:
    """The best elements of a tree's blocks, all else being fixed.

    Args:
        acting, at, tree, unknown: see :func:`gains_of`.
        pull: added to what the tree gains by staying where it is, as a share of its largest gain;
            only where it is a single block.

    Returns:
        Elements of all of its blocks; None if nothing is known of what they gain.
    """
    found: dict[str, Best] = {}
    values: dict[str, Tensor] = {}
    is_known = False
    for name in tree.names:
        block = acting.symmetry.blocks[name]
        gains = gains_of(acting, at, tree, name, unknown)
        is_known = is_known or any(bool(g.any()) for g in gains.values())
        for child in acting.symmetry.children(name):
            gains[()] = values[child] + gains.get((), 0.0)
        q, n = block.count, block.size
        tables = {
            pattern: g.reshape(q, n, q, n).transpose(1, 2).reshape(q * q, n, n)
            for pattern, g in gains.items()
        }
        if pull and tree.is_flat:
            tables = _pulled(acting, at, name, tables, pull)
        found[name] = _best(acting, name, tables)
        values[name] = found[name].values.reshape(q, q)
    return _chosen(acting, tree, found) if is_known else None


def best_within(acting: Acting, at: Elements, tree: Tree, name: str) -> Move:
    """The best elements of an innermost block, while all that it is nested in stays in place."""
    block = acting.symmetry.blocks[name]
    assert block.parent is not None
    q, n = block.count, block.size
    above = flat_indices(acting.symmetry.blocks, at.indices, block.parent)
    pairs = torch.arange(q), torch.from_numpy(above)
    gains = {
        pattern: g.reshape(q, n, q, n)[pairs[0], :, pairs[1]]
        for pattern, g in gains_of(acting, at, tree, name).items()
    }
    return _move({name: _best(acting, name, gains)})


def _best(acting: Acting, name: str, gains: Gains) -> Best:
    title = f"the gains of block {name!r}"
    step, kind = acting.steps.get(name), acting.kinds.of(name)
    if step == "signed":
        return permute_signed(gains, kind.signs, name=title)
    if step == "orthogonal":
        return rotate(gains, keep_ones=kind.kind.ones)
    return permute(gains, name=title)


def _pulled(
    acting: Acting, at: Elements, name: str, gains: Gains, pull: float
) -> dict[Pattern, Tensor]:
    """Gains in which staying gains more: an objective to which a multiple of the squared norm of
    the element is added, which is the same for all, has the same optima and a larger gradient.
    """
    strength = pull * max(float(g.abs().max()) for g in gains.values())
    first = next(iter(gains.values()))
    n = first.shape[-1]
    if acting.steps.get(name) == "orthogonal":
        now = at.matrices.get(name, torch.eye(n, dtype=torch.float64)[None])
        return {**gains, (): gains[()] + strength * now.to(first)}
    now = torch.eye(n, dtype=first.dtype)[torch.from_numpy(at.indices[name])]
    now = strength * now.to(first.device)
    if acting.steps.get(name) != "signed":
        return {**gains, (): gains[()] + now}
    count = acting.kinds.of(name).signs
    signs = at.signs.get(name, np.zeros((count, 1, n), dtype=np.int8))
    result = dict(gains)
    for k in range(count):
        pattern = tuple(int(j == k) for j in range(count))
        kept = now * torch.from_numpy(1 - 2 * signs[k]).to(first)[..., None]
        result[pattern] = result[pattern] + kept if pattern in result else kept
    return result


def _chosen(acting: Acting, tree: Tree, found: Mapping[str, Best]) -> Move:
    """Read the elements off the tables of all pairs of parents, parents first."""
    flat: dict[str | None, Tensor] = {None: torch.zeros(1, dtype=torch.int64)}
    chosen: dict[str, Best] = {}
    for name in reversed(tree.names):
        block = acting.symmetry.blocks[name]
        above = flat[block.parent]
        rows = torch.arange(block.count) * block.count + above
        chosen[name] = _rows(found[name], rows)
        indices = chosen[name].indices
        if indices is not None:
            flat[name] = (above[:, None] * block.size + indices.cpu()).ravel()
    return _move(chosen)


def _rows(best: Best, rows: Tensor) -> Best:
    parts = (best.values, best.indices, best.signs, best.matrices)
    return Best(*(x if x is None else x[rows.to(x.device)] for x in parts))  # type: ignore[arg-type]


def _move(found: Mapping[str, Best]) -> Move:
    """Elements of blocks, of which the rows are those under their parents."""
    indices, signs, matrices = {}, {}, {}
    for name, best in found.items():
        if best.indices is not None:
            indices[name] = best.indices.cpu().numpy()
        if best.signs is not None:
            signs[name] = best.signs.transpose(0, 1).cpu().numpy()
        if best.matrices is not None:
            matrices[name] = best.matrices.cpu()
    return Move(indices, signs, matrices)
