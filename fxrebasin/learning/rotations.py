"""The continuous part of a transform as tensors that an optimizer may move freely.

A rotation is the exponential of a skew-symmetric matrix, an invertible matrix is one plus any
small one. At zero both are the identity. What keeps the vector of ones acts in its complement.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..symmetry.group import Symmetry
from ..symmetry.kinds import Kind, Mix
from ..symmetry.parts import Block


@dataclass(frozen=True, eq=False)
class Rotation:
    """The matrices of one block, one under each parent, as a function of free tensors."""

    kind: Kind
    free: Tensor
    """Of shape ``(count, n, n)``, where ``n`` is one less than the size if ones are kept."""
    complement: Tensor | None
    """An orthonormal basis of the complement of ones, as columns, in float64, if these are kept."""

    def matrices(self) -> tuple[Tensor, Tensor]:
        """Of shape ``(count, size, size)``, and their inverse transposes."""
        if self.kind.mix is Mix.ORTHOGONAL:
            inside = torch.linalg.matrix_exp(self.free - self.free.mT)
            return (self._whole(inside),) * 2
        inside = self.free + torch.eye(self.free.shape[-1]).to(self.free)
        return self._whole(inside), self._whole(torch.linalg.inv(inside).mT)

    def _whole(self, inside: Tensor) -> Tensor:
        if self.complement is None:
            return inside
        complement = self.complement.to(inside)
        return complement @ inside @ complement.mT + 1 / len(complement)

    def in_double(self) -> Rotation:
        """The same, to be computed with all digits, and no longer learned."""
        return Rotation(self.kind, self.free.detach().double(), self.complement)

    @property
    def dimension(self) -> int:
        """In how many independent directions it moves."""
        count, n, _ = self.free.shape
        return count * (n * (n - 1) // 2 if self.kind.mix is Mix.ORTHOGONAL else n * n)


def rotations_of(
    symmetry: Symmetry, *, dtype: torch.dtype, device: torch.device
) -> dict[str, Rotation]:
    """The identity of every block whose units can be mixed, ready to be learned."""
    found = {}
    for block in mixing_blocks(symmetry):
        kind = symmetry.kinds.of(block.name).kind
        n = block.size - 1 if kind.ones else block.size
        free = torch.zeros(block.count, n, n, dtype=dtype, device=device, requires_grad=True)
        complement = _complement_of_ones(block.size) if kind.ones else None
        found[block.name] = Rotation(kind, free, complement)
    return found


def mixing_blocks(symmetry: Symmetry) -> Iterator[Block]:
    """The blocks of which a continuous group acts that mixes units."""
    for block in symmetry:
        kind = symmetry.kinds.of(block.name).kind
        least = 2 + kind.ones if kind.mix is Mix.ORTHOGONAL else 1 + kind.ones
        if kind.mix is not Mix.NOT and block.size >= least:
            yield block


def matrices_of(rotations: Mapping[str, Rotation]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What acts on every block, and what acts on vectors that are dual to it."""
    pairs = {name: rotation.matrices() for name, rotation in rotations.items()}
    return {n: m for n, (m, _) in pairs.items()}, {n: m for n, (_, m) in pairs.items()}


def _complement_of_ones(n: int) -> Tensor:
    with_ones = torch.cat([torch.ones(n, 1), torch.eye(n)[:, 1:]], dim=1).double()
    return torch.linalg.qr(with_ones)[0][:, 1:]
