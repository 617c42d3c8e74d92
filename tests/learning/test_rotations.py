"""Free tensors make matrices of the right kind, and make the identity where they are zero."""

from __future__ import annotations

import pytest
import torch

from fxrebasin.learning.rotations import Rotation, matrices_of, mixing_blocks, rotations_of
from fxrebasin.symmetry.group import Symmetry
from fxrebasin.symmetry.kinds import KINDS, BlockKind, Kinds
from fxrebasin.symmetry.parts import Block

MIXING = ("GL", "GL|1", "O", "O|1")


def symmetry(kind: str, size: int = 6, count: int = 2) -> Symmetry:
    blocks = {"heads": Block("heads", count), "b": Block("b", size, "heads", count)}
    found = Kinds({"heads": BlockKind(), "b": BlockKind(KINDS[kind])})
    return Symmetry(blocks, (), known_kinds=found)


def rotation(kind: str) -> Rotation:
    made = rotations_of(symmetry(kind), dtype=torch.float64, device=torch.device("cpu"))
    return made["b"]


@pytest.mark.parametrize("kind", MIXING)
def test_zero_is_the_identity(kind: str) -> None:
    for matrices in rotation(kind).matrices():
        torch.testing.assert_close(matrices, torch.eye(6).double().expand(2, 6, 6))


@pytest.mark.parametrize("kind", MIXING)
def test_matrices_are_of_their_kind(kind: str) -> None:
    made = rotation(kind)
    with torch.no_grad():
        made.free.normal_(std=0.3, generator=torch.Generator().manual_seed(0))
    matrices, inverses = made.matrices()
    assert not torch.allclose(matrices[0], matrices[1])
    torch.testing.assert_close(matrices.mT @ inverses, torch.eye(6).double().expand(2, 6, 6))
    if kind.startswith("O"):
        torch.testing.assert_close(matrices, inverses)
    if kind.endswith("|1"):
        ones = torch.ones(2, 6).double()
        for one in (matrices, inverses):
            torch.testing.assert_close(one.sum(-1), ones)
            torch.testing.assert_close(one.sum(-2), ones)


@pytest.mark.parametrize("kind", MIXING)
def test_as_many_directions_as_the_group_has(kind: str) -> None:
    expected = symmetry(kind).kinds.of("b").dimension(6) * 2
    inside = 5 if kind.endswith("|1") else 6
    if kind == "GL|1":
        expected = 2 * inside**2  # what is learned keeps the vector of ones on both sides
    assert rotation(kind).dimension == expected


@pytest.mark.parametrize("kind", ["S", "signed S", "monomial", "positive monomial"])
def test_what_does_not_mix_has_nothing_to_learn(kind: str) -> None:
    assert not [*mixing_blocks(symmetry(kind))]


@pytest.mark.parametrize(("kind", "least"), [("O", 2), ("O|1", 3), ("GL", 1), ("GL|1", 2)])
def test_blocks_too_small_to_be_mixed_are_left_out(kind: str, least: int) -> None:
    assert [*mixing_blocks(symmetry(kind, least))]
    assert not [*mixing_blocks(symmetry(kind, least - 1))] or least == 1


@pytest.mark.parametrize("kind", MIXING)
def test_gradients_reach_all_that_is_free(kind: str) -> None:
    made = {"b": rotation(kind)}
    weights = torch.randn(2, 6, 6, generator=torch.Generator().manual_seed(0)).double()
    matrices, inverses = matrices_of(made)
    (weights * (matrices["b"] + 2 * inverses["b"].square())).sum().backward()
    grad = made["b"].free.grad
    assert grad is not None and (grad.abs().sum((1, 2)) > 0).all()
