"""Random elements of the group of every block."""

from __future__ import annotations

import numpy as np
import torch

from .action import Indices
from .elements import Elements, still
from .group import Symmetry
from .kinds import SIGNED, Kind, Mix

SPREAD = 0.5
"""The standard deviation of the logarithm of a random scale."""


def random_indices(symmetry: Symmetry, generator: torch.Generator | None) -> dict[str, Indices]:
    """Permutations of all blocks, uniform over the group of these."""
    device = torch.device("cpu") if generator is None else generator.device
    return {
        block.name: torch.rand(
            block.count, block.size, generator=generator, dtype=torch.float64, device=device
        )
        .argsort(dim=1)
        .cpu()
        .numpy()
        for block in symmetry
    }


def random_elements(
    symmetry: Symmetry, generator: torch.Generator | None, *, signs_only: bool, scales: bool
) -> Elements:
    """Elements of the whole group of every block.

    Orthogonal matrices are uniform over their group; invertible ones are the product of two such
    and of stretchings between 0.6 and 1.6, so that their inverses are no matter of rounding.

    Args:
        symmetry: the group to draw from.
        generator: the source of randomness; torch's own if not given.
        signs_only: beside permutations, draw signs only, where a kind has nothing else.
        scales: scale the units of blocks that are not mixed.
    """
    indices = random_indices(symmetry, generator)
    device = torch.device("cpu") if generator is None else generator.device
    signs, log_scales, matrices = {}, {}, {}
    for block in symmetry:
        name, kind = block.name, symmetry.kinds.of(block.name)
        shape = (block.count, block.size)
        if signs_only and kind.kind != SIGNED:
            continue
        if kind.signs:
            drawn = torch.randint(0, 2, (kind.signs, *shape), generator=generator, device=device)
            signs[name] = drawn.cpu().numpy().astype(np.int8)
        if kind.scales and scales:
            log_scales[name] = SPREAD * _normal((kind.scales, *shape), generator)
        if kind.kind.mix is not Mix.NOT:
            of_parents = [_matrix(kind.kind, block.size, generator) for _ in range(block.count)]
            matrices[name] = torch.stack(of_parents)
            indices[name] = still(block)
    return Elements(indices, signs, log_scales, matrices)


def _matrix(kind: Kind, n: int, generator: torch.Generator | None) -> torch.Tensor:
    inside = n - 1 if kind.ones else n
    matrix = _rotation(inside, generator)
    if kind.mix is Mix.INVERTIBLE:
        device = torch.device("cpu") if generator is None else generator.device
        drawn = torch.rand(inside, generator=generator, dtype=torch.float64, device=device)
        matrix = matrix @ ((0.6 + drawn.cpu())[:, None] * _rotation(inside, generator))
    if not kind.ones:
        return matrix
    basis = complement_of_ones(n)
    return basis @ matrix @ basis.T + 1 / n


def _rotation(n: int, generator: torch.Generator | None) -> torch.Tensor:
    """Uniform over the orthogonal group, reflections included.

    Source: Mezzadri, "How to generate random matrices from the classical compact groups" (2007),
    section 5.
    """
    q, r = torch.linalg.qr(_normal((n, n), generator))
    return q * r.diagonal().sign()


def complement_of_ones(n: int) -> torch.Tensor:
    """An orthonormal basis of the vectors whose entries add up to zero, as columns."""
    with_ones = torch.cat([torch.ones(n, 1), torch.eye(n)[:, 1:]], dim=1).double()
    return torch.linalg.qr(with_ones)[0][:, 1:]


def _normal(shape: tuple[int, ...], generator: torch.Generator | None) -> torch.Tensor:
    device = torch.device("cpu") if generator is None else generator.device
    return torch.randn(shape, generator=generator, dtype=torch.float64, device=device).cpu()
