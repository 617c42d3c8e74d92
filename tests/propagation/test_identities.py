"""Which constants are the same after their axes are permuted alike."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fxrebasin.propagation.identities import find_identities

DELTA = torch.einsum("ij,jk->ijk", torch.eye(4), torch.eye(4))
CIRCLE = torch.eye(5).roll(1, 0) + torch.eye(5).roll(-1, 0)


@pytest.mark.parametrize(
    ("constant", "expected"),
    [
        (torch.eye(4), [(0, 1)]),
        (torch.full((3, 3), -torch.inf).fill_diagonal_(0), [(0, 1)]),
        (torch.eye(6).view(2, 3, 2, 3), [(0, 2), (1, 3)]),
        (torch.eye(4).view(2, 2, 2, 2), [(0, 2), (1, 3)]),
        (DELTA, [(0, 1, 2)]),
        (torch.eye(4).view(1, 4, 4).bool(), [(1, 2)]),
        (CIRCLE, []),
        (torch.eye(4).cumsum(0), []),
        (torch.diag(torch.tensor([1.0, 1.0, 2.0])), []),
        (torch.eye(4, 5), []),
        (torch.full((3, 3), torch.nan), []),
    ],
)
def test_axes_that_are_one(constant: Tensor, expected: list[tuple[int, ...]]) -> None:
    dims = [d for d, n in enumerate(constant.shape) if n > 1]
    assert find_identities(constant, dims) == expected
