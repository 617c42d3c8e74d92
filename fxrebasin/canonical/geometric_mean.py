"""Matrices that give weights of a block their least norm: the geometric mean of Gram matrices.

What writes a block is multiplied by M, what reads it by the inverse transpose. With ``P`` and ``N``
the sums of ``x x^T`` over both, the squares of all entries add up to ``tr(S P) + tr(S^-1 N)``,
where ``S = M^T M``: least where ``S P S = N``. That ``S`` is the geometric mean of ``P^-1`` and
``N``, and ``M`` is its root, up to a rotation, which changes no norm.
"""

from __future__ import annotations

import torch

FLOOR = 1e-10
"""Directions in which weights are less than so much of what they are in others are not stretched
any further: a head that is not used would be stretched without end."""
ROUNDS = 3
"""The first is exact but for rounding, which the others mend where conditions are bad."""
ALIKE = 1e-14
"""Gram matrices that differ by no more are the same."""


def least_norm_matrices(covariant: torch.Tensor, dual: torch.Tensor) -> torch.Tensor:
    """Matrices M that make both Gram matrices of a block the same.

    >>> written, read = torch.diag(torch.tensor([16.0, 1.0])), torch.eye(2)
    >>> least_norm_matrices(written[None].double(), read[None].double())
    tensor([[[0.5000, 0.0000],
             [0.0000, 1.0000]]], dtype=torch.float64)

    Args:
        covariant: float64 of shape ``(count, n, n)``: the sum of ``x x^T`` over the weights that M
            multiplies.
        dual: the same over those that its inverse transpose does.

    Returns:
        Float64 of shape ``(count, n, n)``; the identity where one of the two is zero, since the
        norm then has no least value.

    Source:
        Kempf and Ness, "The length of vectors in representation spaces" (1979): every closed orbit
        has a point of least norm, unique up to the maximal compact subgroup. The mean is that of
        Pusz and Woronowicz (1975); see Bhatia, "Positive Definite Matrices", chapter 4.
    """
    used = [g.diagonal(dim1=1, dim2=2).sum(dim=1) > 0 for g in (covariant, dual)]
    is_used = (used[0] & used[1])[:, None, None]
    identity = torch.eye(covariant.shape[-1], dtype=covariant.dtype)
    p, n = (_power(torch.where(is_used, g, identity), 1.0, FLOOR) for g in (covariant, dual))
    found = identity.expand_as(p)
    for _ in range(ROUNDS):
        inverse = torch.linalg.inv(found)
        p_now, n_now = found @ p @ found.mT, inverse.mT @ n @ inverse
        if (p_now - n_now).abs().max() <= ALIKE * p_now.abs().max():
            break
        found = _step(p_now, n_now) @ found
    return torch.where(is_used, found, identity)


def _step(p: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
    root = _power(p, 0.5)
    inverse_root = torch.linalg.inv(root)
    inside = _power(root @ n @ root, 0.5)
    return _power(inverse_root @ inside @ inverse_root, 0.5)


def _power(matrix: torch.Tensor, power: float, floor: float = 1e-16) -> torch.Tensor:
    """Of symmetric matrices, whose smallest eigenvalues are taken to be no less than a share of
    their largest."""
    values, vectors = torch.linalg.eigh((matrix + matrix.mT) / 2)
    values = values.maximum(floor * values[:, -1:])
    return (vectors * values[:, None, :] ** power) @ vectors.mT
