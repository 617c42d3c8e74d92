"""The best element of one block: against all of them, or against random ones."""

from __future__ import annotations

from itertools import permutations, product

import pytest
import torch
from torch import Tensor

from fxrebasin.matching.transforms.steps import permute, permute_signed, rotate

N = 3


def drawn(seed: int, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, N, N, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("signs", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_signed_permutations_are_the_best_of_all(seed: int, signs: int) -> None:
    patterns = list(product((0, 1), repeat=signs))
    gains = {p: drawn(seed + 10 * k) for k, p in enumerate(patterns)}
    found = permute_signed(gains, signs, name="gains")
    assert found.indices is not None and found.signs is not None

    def value(b: int, order: tuple[int, ...], bits: Tensor) -> float:
        total = 0.0
        for pattern, matrix in gains.items():
            odd = (torch.tensor(pattern)[:, None] * bits).sum(0) % 2
            rows = matrix[b][torch.arange(N), torch.tensor(order)]
            total += float((rows * (1 - 2 * odd)).sum())
        return total

    every = [torch.tensor(bits).reshape(signs, N) for bits in product((0, 1), repeat=signs * N)]
    for b in range(2):
        best = max(value(b, order, bits) for order in permutations(range(N)) for bits in every)
        order = tuple(found.indices[b].tolist())
        assert value(b, order, found.signs[b]) == pytest.approx(best)
        assert float(found.values[b]) == pytest.approx(best)


def test_without_signs_that_act_it_is_an_assignment() -> None:
    plain = permute({(): drawn(0)}, name="gains")
    signed = permute_signed({(0,): drawn(0)}, 1, name="gains")
    assert plain.indices is not None and signed.indices is not None and signed.signs is not None
    assert torch.equal(plain.indices, signed.indices) and not signed.signs.any()


@pytest.mark.parametrize("keep_ones", [False, True])
def test_no_rotation_gains_more(keep_ones: bool) -> None:
    gains = drawn(1)
    found = rotate({(): gains}, keep_ones=keep_ones)
    assert found.matrices is not None
    identity = torch.eye(N, dtype=torch.float64)
    assert torch.allclose(found.matrices @ found.matrices.mT, identity.expand(2, -1, -1))
    value = (found.matrices * gains).sum((1, 2))
    assert torch.allclose(value, found.values)
    if keep_ones:
        assert torch.allclose(found.matrices.sum(2), torch.ones(2, N, dtype=torch.float64))
    for seed in range(50):
        other = rotate({(): drawn(seed)}, keep_ones=keep_ones).matrices
        assert other is not None
        assert ((other * gains).sum((1, 2)) <= value + 1e-12).all()
