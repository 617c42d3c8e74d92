"""Blocks whose group is not compact, brought to the point at which their weights are least.

Invertible matrices can stretch weights without end, and so can scales. Of all weights that they
reach, those of least norm are one point but for rotations, so that what is left of the group keeps
distances. Blocks that lie on one tensor change each other's point and are balanced in turn.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

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


@dataclass(frozen=True, eq=False)
class Balanced:
    """What was done to which blocks, and the tensors that it was done to."""

    tensors: Mapping[str, torch.Tensor]
    """In float64, by the first names of parameters."""
    matrices: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Per block, of shape ``(count, size, size)``."""
    log_scales: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Per block, of shape ``(scales, count, size)``."""


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
) -> Balanced:
    """Bring blocks to the point of least norm, one after the other until none moves.

    Args:
        symmetry: the blocks and their kinds.
        held: of the blocks to balance, as :func:`held_by_block` returns them.
        tensors: in float64, every parameter that these blocks lie on.
    """
    current = dict(tensors)
    matrices: dict[str, torch.Tensor] = {}
    log_scales: dict[str, torch.Tensor] = {}
    neighbours = _neighbours(held)
    waiting = dict.fromkeys(held)
    for _ in range(MOST_SWEEPS):
        if not waiting:
            break
        now, waiting = waiting, {}
        for name in now:
            is_linear = symmetry.kinds.of(name).kind.mix is Mix.INVERTIBLE
            if is_linear:
                matrix = least_norm_matrices(*_gram_matrices(held[name], current))
                matrices[name] = matrix @ matrices[name] if name in matrices else matrix
                identity = torch.eye(matrix.shape[-1])
                moved = float((matrix - identity).abs().max())
                _act(symmetry, held[name], current, matrices={name: matrix})
            else:
                logs = _least_scales(symmetry, held[name], current)
                log_scales[name] = logs + log_scales.get(name, 0)
                moved = float(logs.abs().max())
                _act(symmetry, held[name], current, log_scales={name: logs})
            if moved > SETTLED:
                waiting |= dict.fromkeys(neighbours[name])
    return Balanced(current, matrices, log_scales)


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
    k = symmetry.kinds.of(held[0].block.name).scales
    of_weights = torch.tensor(exponents[False], dtype=torch.float64).reshape(-1, k)
    shape = (0, held[0].block.count, held[0].block.size)
    squares = torch.stack(sizes[False]) if sizes[False] else torch.zeros(shape).double()
    logs = least_norm_scales(of_weights, squares)
    if sizes[True]:
        of_variances = torch.tensor(exponents[True], dtype=torch.float64)
        used = torch.from_numpy(
            balanced_terms(of_weights.numpy(), torch.ones(len(of_weights)).bool().numpy())
        )
        now = torch.stack(sizes[True]) + torch.einsum("vk,kqn->vqn", of_variances, logs)
        logs = logs + scales_of_variances(of_variances, now, of_weights[used])
    return logs


def _squares(x: torch.Tensor) -> torch.Tensor:
    return x.abs().square().sum(2)


def _act(
    symmetry: Symmetry,
    held: list[Held],
    tensors: dict[str, torch.Tensor],
    *,
    matrices: Mapping[str, torch.Tensor] | None = None,
    log_scales: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Let an element of one block act on the tensors that it lies on."""
    matrices, kinds = matrices or {}, symmetry.kinds
    inverses = inverse_transposes(kinds, matrices)
    action = LinearAction(symmetry.blocks, kinds, {}, log_scales or {}, matrices, inverses)
    for name, parameter in {one.parameter.name: one.parameter for one in held}.items():
        tensors[name] = action.act(parameter, tensors[name]).contiguous()
