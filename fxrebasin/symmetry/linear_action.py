"""How signs, scales and matrices act on axes of tensors, once units are at their places.

A :class:`~fxrebasin.symmetry.kinds.Factor` says for each place of a block what its element does
there: with which of its signs and powers of its scales it multiplies each copy, and whether a
matrix acts as itself, as its inverse transpose, or, on an absorbed vector, not at all.

What signs do is exact in every dtype. All else is computed in float64, if nothing else is said, and
rounded once. Gradients flow through it to the matrices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..arguments import refuse
from .action import unit_numbers
from .kinds import Factor, Kinds, Mix
from .parts import AxisGroup, Block, ParameterSymmetry, Segment


@dataclass(frozen=True, eq=False)
class LinearAction:
    """The part of an element beside its permutations, and where it acts."""

    blocks: Mapping[str, Block]
    kinds: Kinds
    signs: Mapping[str, NDArray[np.int8]]
    log_scales: Mapping[str, torch.Tensor]
    matrices: Mapping[str, torch.Tensor]
    inverses: Mapping[str, torch.Tensor]
    """The inverse transposes of the matrices."""
    precision: torch.dtype = torch.float64

    def act(self, parameter: ParameterSymmetry, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor after all that is no permutation has acted on its axes.

        Raises:
            InvalidArgumentError: it holds whole numbers, which would have to be mixed or scaled.
        """
        factors = [self.multipliers(parameter, g) for g in range(len(parameter.groups))]
        mixed = [self.mixing(parameter, g) for g in range(len(parameter.groups))]
        if not any(mixed):
            if all(by is None for by in factors):
                return tensor
            if all(by is None or (np.abs(by) == 1).all() for by in factors):
                return _multiplied(parameter, tensor, factors)
        if not (tensor.is_floating_point() or tensor.is_complex()):
            refuse(
                parameter.name, "floating point numbers, to be mixed or scaled", str(tensor.dtype)
            )
        added = self.kinds.variances.get(parameter.name, 0.0)
        wide = self.precision.to_complex() if tensor.is_complex() else self.precision
        made = _multiplied(parameter, tensor.to(wide) + added, factors)
        for group, found in zip(parameter.groups, mixed, strict=True):
            for segment, d, factor in found:
                made = self.mix(made, group, segment, d, factor)
        return (made - added).to(tensor.dtype)

    def _factors(
        self, parameter: ParameterSymmetry, g: int, acting: Mapping[str, object]
    ) -> list[tuple[Segment, int, Factor]]:
        """Where blocks lie that have something of a kind, and how it acts there."""
        return [
            (segment, d, self.kinds.factors[parameter.name, g, s, d])
            for s, segment in enumerate(parameter.groups[g].segments)
            for d, block in enumerate(segment.blocks)
            if block in acting
        ]

    def multipliers(self, parameter: ParameterSymmetry, g: int) -> NDArray[np.float64] | None:
        """By what each position along a group of axes is multiplied; None where by nothing."""
        length = prod(parameter.shape[a] for a in parameter.groups[g].axes)
        odd = np.zeros(length, dtype=np.int64)
        logs = np.zeros(length)
        acting = False
        for segment, d, factor in self._factors(parameter, g, self.signs):
            if np.any(factor.signs):
                acting = True
                _add(odd, self.blocks, segment, d, factor.signs, self.signs[factor.block])
        for segment, d, factor in self._factors(parameter, g, self.log_scales):
            if np.any(factor.scales):
                acting = True
                scales = self.log_scales[factor.block].numpy()
                _add(logs, self.blocks, segment, d, factor.scales, scales)
        result: NDArray[np.float64] = np.exp(logs) * (1 - 2 * (odd % 2))
        return result if acting else None

    def mixing(self, parameter: ParameterSymmetry, g: int) -> list[tuple[Segment, int, Factor]]:
        found = self._factors(parameter, g, self.matrices)
        return [(segment, d, factor) for segment, d, factor in found if any(factor.parity)]

    def mix(
        self, tensor: torch.Tensor, group: AxisGroup, segment: Segment, d: int, factor: Factor
    ) -> torch.Tensor:
        """Let the matrices of a block act along one dimension of a segment."""
        order = [*group.axes, *(a for a in range(tensor.ndim) if a not in group.axes)]
        front = tensor.permute(order)
        flat = front.reshape(prod(front.shape[: len(group.axes)]), -1).clone()
        of_parent = _above(segment, d)
        block = self.blocks[factor.block]
        for sign, matrices in ((1, self.matrices), (-1, self.inverses)):
            copies = [c for c, parity in enumerate(factor.parity) if parity == sign]
            if copies:
                at = np.moveaxis(
                    segment.positions[..., copies],
                    (*of_parent, d),
                    range(len(of_parent) + 1),
                ).reshape(block.count, block.size, -1)
                positions = torch.from_numpy(np.ascontiguousarray(at)).to(tensor.device)
                entries = flat[positions].reshape(block.count, block.size, -1)
                matrix = matrices[factor.block].to(device=tensor.device, dtype=tensor.dtype)
                flat[positions] = (matrix @ entries).reshape(*at.shape, -1)
        back = [order.index(a) for a in range(len(order))]
        return flat.reshape(front.shape).permute(back)


def inverse_transposes(
    kinds: Kinds, matrices: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Per block, what acts on vectors that are dual to those on which its matrices act."""
    return {
        name: matrix
        if kinds.of(name).kind.mix is Mix.ORTHOGONAL
        else torch.linalg.inv(matrix).mT.contiguous()
        for name, matrix in matrices.items()
    }


def _above(segment: Segment, d: int) -> list[int]:
    """The dimensions of the parent of a block, of its parent and so on, the outermost first."""
    found: list[int] = []
    parent = segment.parents[d]
    while parent >= 0:
        found.insert(0, parent)
        parent = segment.parents[parent]
    return found


def _add(
    total: NDArray[Any],
    blocks: Mapping[str, Block],
    segment: Segment,
    d: int,
    exponents: tuple[tuple[int, ...], ...],
    values: NDArray[Any],
) -> None:
    """Add to the positions of every copy the values of the units there, times their exponents."""
    units = unit_numbers(blocks, segment)[d][..., 0]
    flat = values.reshape(len(values), -1)
    for c, powers in enumerate(exponents):
        positions = segment.positions[..., c]
        of_unit = np.array(powers) @ flat
        total[positions] += np.broadcast_to(of_unit[units], positions.shape)


def _multiplied(
    parameter: ParameterSymmetry,
    tensor: torch.Tensor,
    factors: list[NDArray[np.float64] | None],
) -> torch.Tensor:
    for group, by in zip(parameter.groups, factors, strict=True):
        if by is not None:
            along = torch.from_numpy(by).reshape([tensor.shape[a] for a in group.axes])
            along = along.permute([*np.argsort(group.axes)])
            shape = [n if a in group.axes else 1 for a, n in enumerate(tensor.shape)]
            tensor = tensor * along.reshape(shape).to(device=tensor.device, dtype=tensor.dtype)
    return tensor
