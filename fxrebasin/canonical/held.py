"""Blocks on the axes of stored tensors, as arrays whose first axes are those of the block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
import torch

from ..symmetry.group import Symmetry
from ..symmetry.kinds import Factor, Place
from ..symmetry.parts import AxisGroup, Block, ParameterSymmetry, Segment


@dataclass(frozen=True, eq=False)
class Held:
    """A block along one dimension of a segment of a tensor."""

    parameter: ParameterSymmetry
    group: AxisGroup
    segment: Segment
    dim: int
    block: Block
    factor: Factor

    def take(self, tensor: torch.Tensor) -> torch.Tensor:
        """Its units, of shape ``(count, size, others, copies, rest)``.

        Args:
            tensor: the one that is stored, of the shape that the symmetry says.
        """
        flat, _ = self._flat(tensor)
        positions = self._positions().to(tensor.device)
        return flat[positions.reshape(-1)].reshape(*positions.shape, -1)

    def put(self, tensor: torch.Tensor, units: torch.Tensor) -> torch.Tensor:
        """The tensor with other units in their places; a new one."""
        flat, order = self._flat(tensor)
        flat = flat.clone()
        flat[self._positions().reshape(-1).to(tensor.device)] = units.reshape(-1, flat.shape[1])
        moved = flat.reshape([tensor.shape[a] for a in order])
        return moved.permute([order.index(a) for a in range(len(order))]).contiguous()

    def _flat(self, tensor: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
        """Its axes as rows, all others as columns; and in which order those of the tensor are."""
        order = [*self.group.axes, *(a for a in range(tensor.ndim) if a not in self.group.axes)]
        rows = prod(tensor.shape[a] for a in self.group.axes)
        columns = prod(tensor.shape[a] for a in order[len(self.group.axes) :])
        return tensor.permute(order).reshape(rows, columns), order

    def _positions(self) -> torch.Tensor:
        """Of shape ``(count, size, others, copies)``."""
        first = [self.dim]
        while self.segment.parents[first[0]] >= 0:
            first.insert(0, self.segment.parents[first[0]])
        at = np.moveaxis(self.segment.positions, first, range(len(first)))
        shape = (self.block.count, self.block.size, -1, at.shape[-1])
        return torch.from_numpy(np.ascontiguousarray(at).reshape(shape))


def places(symmetry: Symmetry) -> Iterator[tuple[Place, Held]]:
    """Every place at which an element of a block acts in a way that is known."""
    for parameter in symmetry.parameters:
        for g, group in enumerate(parameter.groups):
            for s, segment in enumerate(group.segments):
                for d, name in enumerate(segment.blocks):
                    place = (parameter.name, g, s, d)
                    factor = symmetry.kinds.factors.get(place)
                    if factor is not None:
                        block = symmetry.blocks[name]
                        yield place, Held(parameter, group, segment, d, block, factor)


def widen(tensor: torch.Tensor) -> torch.Tensor:
    """In float64 or complex128; where a device has neither, on the processor."""
    if tensor.device.type not in ("cpu", "cuda"):
        tensor = tensor.cpu()
    return tensor.detach().to(torch.complex128 if tensor.is_complex() else torch.float64)
