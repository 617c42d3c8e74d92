"""Blocks whose group is not compact, brought to the point at which their weights are least.

Invertible matrices can stretch weights without end, and so can scales. Of all weights that they
reach, those of least norm are one point but for rotations, so that what is left of the group keeps
distances. Blocks that lie on one tensor change each other's point and are balanced in turn.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch

from ..symmetry.group import Symmetry
from ..symmetry.kinds import LINEAR, Mix
from ..symmetry.linear_action import LinearAction, inverse_transposes
from .geometric_mean import least_norm_matrices
from .held import Held, places
from .scales import balanced_terms, least_norm_scales, scales_of_variances

MOST_SWEEPS = 100
SETTLED = 1e-10
"""Blocks that move no further than this are where they stay."""


def held_by_block(
    symmetry: Symmetry,
    names: Collection[str],
    *,
    scales: bool = False,
    only: Collection[str] | None = None,
) -> dict[str, list[Held]]:
    """Where the blocks lie that can be balanced: those of any matrices, and perhaps of scales.

    Matrices that keep the vector of ones are left alone: their group moves that vector's dual
    without end, and no norm is least. So are blocks with others inside them, which are not mixed.

    Args:
        symmetry: the blocks and their kinds.
        names: the parameters that there are.
        scales: balance scales as well?
        only: the blocks to look for, if not all.
    """
    found: dict[str, list[Held]] = {}
    for _, held in places(symmetry):
        kind = symmetry.kinds.of(held.block.name)
        is_linear = kind.kind == LINEAR and not symmetry.children(held.block.name)
        is_wanted = only is None or held.block.name in only
        is_there = held.parameter.name in names
        if is_wanted and is_there and (is_linear or (scales and kind.scales)):
            found.setdefault(held.block.name, []).append(held)
    return found


def balance(
    symmetry: Symmetry, held: Mapping[str, list[Held]], tensors: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Bring blocks to the point of least norm, one after the other until none moves.

    Args:
        symmetry: the blocks and their kinds.
        held: of the blocks to balance, as :func:`held_by_block` returns them.
        tensors: in float64, every parameter that these blocks lie on.

    Returns:
        The same tensors after that.
    """
    current = dict(tensors)
    neighbours = _neighbours(held)
    waiting = dict.fromkeys(held)
    for _ in range(MOST_SWEEPS):
        if not waiting:
            break
        now, waiting = waiting, {}
        for name in now:
            if _step(symmetry, held[name], current) > SETTLED:
                waiting |= dict.fromkeys(neighbours[name])
    return current


def _step(symmetry: Symmetry, held: list[Held], tensors: dict[str, torch.Tensor]) -> float:
    """Bring one block to its point of least norm; by how much has it moved?"""
    name = held[0].block.name
    if symmetry.kinds.of(name).kind.mix is Mix.INVERTIBLE:
        matrix = least_norm_matrices(*_gram_matrices(held, tensors))
        matrices, logs = {name: matrix}, {}
        moved = matrix - torch.eye(matrix.shape[-1])
    else:
        moved = _least_scales(symmetry, held, tensors)
        matrices, logs = {}, {name: moved}
    kinds = symmetry.kinds
    inverses = inverse_transposes(kinds, matrices)
    action = LinearAction(symmetry.blocks, kinds, {}, logs, matrices, inverses)
    for parameter in {one.parameter.name: one.parameter for one in held}.values():
        tensors[parameter.name] = action.act(parameter, tensors[parameter.name]).contiguous()
    return float(moved.abs().max())


def _neighbours(held: Mapping[str, list[Held]]) -> dict[str, set[str]]:
    """Per block, those that lie on the same entries of a tensor, itself if it does so twice."""
    on_tensor: dict[str, list[Held]] = {}
    for places_of_block in held.values():
        for one in places_of_block:
            on_tensor.setdefault(one.parameter.name, []).append(one)
    found: dict[str, set[str]] = {name: set() for name in held}
    for together in on_tensor.values():
        for one in together:
            for other in together:
                is_apart = one.group is other.group and one.segment is not other.segment
                if one is not other and not is_apart:
                    found[one.block.name].add(other.block.name)
    return found


def _gram_matrices(
    held: list[Held], tensors: Mapping[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    block = held[0].block
    zero = torch.zeros(block.count, block.size, block.size, dtype=torch.float64)
    sums = {1: zero, -1: zero.clone()}
    for one in held:
        tensor = tensors[one.parameter.name]
        if not one.parameter.is_buffer:
            units = one.take(tensor)
            for copy, parity in enumerate(one.factor.parity):
                x = units[:, :, :, copy].flatten(2)
                if parity:
                    sums[parity] += (x @ x.mH).real.cpu()
    return sums[1], sums[-1]


def _least_scales(
    symmetry: Symmetry, held: list[Held], tensors: Mapping[str, torch.Tensor]
) -> torch.Tensor:
    variances = symmetry.kinds.variances
    exponents: dict[bool, list[tuple[int, ...]]] = {True: [], False: []}
    sizes: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    for one in held:
        name = one.parameter.name
        is_variance = name in variances
        if one.parameter.is_buffer and not is_variance:
            continue
        units = one.take(tensors[name]).cpu()
        for copy, powers in enumerate(one.factor.scales):
            if any(powers):
                x = units[:, :, :, copy].flatten(2)
                exponents[is_variance].append(powers)
                size = (x.mean(2) + variances[name]).log() if is_variance else _squares(x)
                sizes[is_variance].append(size)
    block = held[0].block
    k = symmetry.kinds.of(block.name).scales
    none = torch.zeros(0, block.count, block.size, dtype=torch.float64)
    of_weights, of_variances = (
        torch.tensor(exponents[is_variance], dtype=torch.float64).reshape(-1, k)
        for is_variance in (False, True)
    )
    squares, variance_logs = (
        torch.stack(sizes[is_variance]) if sizes[is_variance] else none
        for is_variance in (False, True)
    )
    logs = least_norm_scales(of_weights, squares)
    if len(of_variances):
        is_used = (squares > 0).flatten(1).any(dim=1).numpy()
        balanced = torch.from_numpy(balanced_terms(of_weights.numpy(), is_used))
        now = variance_logs + torch.einsum("vk,kqn->vqn", of_variances, logs)
        logs = logs + scales_of_variances(of_variances, now, of_weights[balanced])
    return logs


def _squares(x: torch.Tensor) -> torch.Tensor:
    return x.abs().square().sum(2)
