"""Constants that say of their axes that they are one, as an identity matrix does.

The numbers ``a I + b`` are the same after any permutation of the rows if the columns are permuted
alike. Nothing there is a fixed place: the axes have units, and these are the same on all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import torch


def find_identities(tensor: torch.Tensor, dims: Sequence[int]) -> list[tuple[int, ...]]:
    """The dims among ``dims`` that can be permuted, if they are permuted alike: pairs, or more.

    >>> find_identities(torch.eye(4).expand(2, 4, 4), (1, 2)), find_identities(torch.ones(3, 3), ())
    ([(1, 2)], [])
    >>> find_identities(torch.arange(9).view(3, 3), (0, 1))
    []
    """
    found: list[tuple[int, ...]] = []
    left = list(dims) if tensor.layout == torch.strided and not tensor.is_meta else []
    for size in dict.fromkeys(tensor.shape[d] for d in left):
        alike = [d for d in left if tensor.shape[d] == size]
        for together in (*combinations(alike, 2), tuple(alike)):
            free = not any({*together} & {*others} for others in found)
            if len(together) > 1 and free and _is_invariant(tensor, together):
                found.append(together)
    return found


def _is_invariant(tensor: torch.Tensor, dims: tuple[int, ...]) -> bool:
    """Is it the same after an exchange of two, and a cycle of all? These make all permutations."""
    n = tensor.shape[dims[0]]
    cycle = torch.arange(n, device=tensor.device).roll(1)
    exchange = torch.arange(n, device=tensor.device)
    exchange[:2] = exchange[:2].flip(0)
    return all(torch.equal(_permuted(tensor, dims, p), tensor) for p in (exchange, cycle))


def _permuted(tensor: torch.Tensor, dims: tuple[int, ...], order: torch.Tensor) -> torch.Tensor:
    for d in dims:
        tensor = tensor.index_select(d, order)
    return tensor
