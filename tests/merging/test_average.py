"""A mean that models join and leave is the mean of those that are there."""

from __future__ import annotations

import torch
from random_pairs import random_pair

import fxrebasin as fr
from fxrebasin.merging.average import RunningMean, as_it_is, towards_

torch.set_num_threads(1)


def test_who_has_left_leaves_no_trace() -> None:
    symmetry, a, b = random_pair("torch_attention")
    moved = fr.Permutation.random(symmetry, torch.Generator().manual_seed(0))
    mean, expected = RunningMean(symmetry), RunningMean(symmetry)
    for state, move, weight in ((a, as_it_is, 2.0), (b, moved.permute, 1.0), (a, moved.permute, 4)):
        mean.include(state, move, weight)
    mean.exclude(b, moved.permute, 1.0)
    expected.include(a, as_it_is, 1.0)
    expected.include(a, moved.permute, 2.0)
    assert mean.total == 6
    for name, tensor in expected.items():
        assert torch.allclose(mean[name], tensor, rtol=1e-12, atol=1e-12), name


def test_who_joins_without_weight_changes_nothing() -> None:
    symmetry, a, b = random_pair("residual_mlp")
    mean = RunningMean(symmetry)
    mean.include(b, as_it_is, 0.0)
    mean.include(a, as_it_is, 3.0)
    mean.include(b, as_it_is, 0.0)
    assert all(torch.allclose(mean[n], t, rtol=1e-14, atol=1e-15) for n, t in a.items())


def test_models_that_agree_are_their_mean_bit_for_bit() -> None:
    symmetry, a, _ = random_pair("residual_mlp")
    single = {name: tensor.float() for name, tensor in a.items()}
    mean = RunningMean(symmetry)
    for weight in (0.1, 0.7, 1 / 3):
        mean.include(single, as_it_is, weight)
    assert all(torch.equal(mean[name], tensor) for name, tensor in single.items())
    finished = mean.finish(single, as_it_is)
    assert not mean
    assert list(finished) == list(single)


def test_infinities_that_differ_have_no_mean() -> None:
    mean = torch.tensor([torch.inf, torch.inf, 1.0])
    towards_(mean, torch.tensor([torch.inf, 1.0, 3.0]), 0.5)
    assert mean[0] == torch.inf
    assert not bool(mean[1].isfinite())
    assert mean[2] == 2
