"""Tensors that share memory are seen before anything is written."""

from __future__ import annotations

import pytest
import torch
from reliability import Snapshot
from torch import nn

import fxrebasin as fr
from fxrebasin.errors import InvalidArgumentError
from fxrebasin.symmetry.aliases import check_writable

torch.set_num_threads(1)

X = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))


def net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))


def test_a_parameter_of_the_reference_is_not_written_to() -> None:
    a, b = net(1), net(2)
    b[0].weight = a[0].weight
    before, of_a = Snapshot(b, ()), Snapshot(a, ())
    with pytest.raises(InvalidArgumentError, match=r"'0.weight' of model B shares .* '0.weight'"):
        fr.rebasin(b, to=a, args=(X,), inplace=True, progress=False)
    before.check()
    of_a.check()
    aligned = fr.rebasin(b, to=a, args=(X,), progress=False)
    torch.testing.assert_close(aligned(X), b(X))
    of_a.check()


def test_a_part_of_the_reference_is_not_written_to() -> None:
    a, b = net(1), net(2)
    memory = torch.randn(40)
    a[0].weight = nn.Parameter(memory[:24].view(8, 3))
    b[0].weight = nn.Parameter(memory[16:].view(8, 3))
    before = Snapshot(a, ())
    with pytest.raises(InvalidArgumentError, match="shares memory"):
        fr.rebasin(b, to=a, args=(X,), inplace=True, progress=False)
    before.check()


def test_one_piece_of_memory_without_overlap_is_fine() -> None:
    a, b = net(1), net(2)
    memory = torch.randn(48)
    a[0].weight = nn.Parameter(memory[:24].view(8, 3))
    b[0].weight = nn.Parameter(memory[24:].view(8, 3))
    before, expected = Snapshot(a, ()), b(X).detach()
    fr.rebasin(b, to=a, args=(X,), inplace=True, progress=False)
    before.check()
    torch.testing.assert_close(b(X), expected)


def swapped() -> fr.Permutation:
    symmetry = fr.analyze(net(3), (X,))
    return fr.Permutation.random(symmetry, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shift", [0, 3, 12])
def test_parameters_of_one_model_that_overlap(shift: int) -> None:
    model = net(1)
    memory = torch.randn(64)
    model[0].weight = nn.Parameter(memory[:24].view(8, 3))
    model[2].weight = nn.Parameter(memory[shift : shift + 16].view(2, 8))
    permutation, before = swapped(), Snapshot(model, ())
    with pytest.raises(InvalidArgumentError, match=r"'0.weight' .*'2.weight'"):
        permutation.apply_(model)
    before.check()
    torch.testing.assert_close(permutation.apply_to(model)(X), model(X))


def test_parameters_that_overlap_and_agree() -> None:
    memory = torch.arange(6.0)
    whole, part = memory.view(6), memory[2:]
    moved = memory[[1, 0, 2, 3, 5, 4]]
    check_writable({"whole": whole, "part": part}, {"whole": moved, "part": moved[2:]})
    with pytest.raises(InvalidArgumentError, match="'part' shares memory with 'whole'"):
        check_writable({"whole": whole, "part": part}, {"whole": moved, "part": part})


def test_an_expanded_parameter_is_refused() -> None:
    model = net(1)
    model[0].bias = nn.Parameter(torch.randn(1).expand(8))
    permutation, before = swapped(), Snapshot(model, ())
    with pytest.raises(InvalidArgumentError, match="itself"):
        permutation.apply_(model)
    before.check()
