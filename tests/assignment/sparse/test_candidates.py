"""Candidates: as many as asked for, and what they prove."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.assignment.kinds import matrix
from fxrebasin.assignment.sparse.candidates import candidates, with_keys
from fxrebasin.assignment.sparse.scans import HostScans

torch.set_num_threads(1)


def test_candidates_are_as_many_as_asked_for() -> None:
    passes = HostScans(matrix("spec", 300), threads=1)
    utilities, slack = passes.transform(np.zeros(300))
    required = np.random.default_rng(0).permutation(300)
    chosen = candidates(passes, utilities, -slack, required, per_row=20)
    assert chosen is not None
    keys = chosen.keys
    assert 10 * 300 < len(keys) < 40 * 300
    assert (np.diff(keys) > 0).all()
    assert np.isin(np.arange(300) * 300 + required, keys).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0.0, 300.0])
@pytest.mark.parametrize("rise", [0.0, 0.05, 0.5])
def test_content_rows_like_nothing_but_candidates_better(
    dtype: type, offset: float, rise: float
) -> None:
    rng = np.random.default_rng(0)
    costs: NDArray[np.floating] = (matrix("spec", 200) + offset).astype(dtype)
    passes = HostScans(costs, threads=1)
    utilities, slack = passes.transform(np.zeros(200))
    prices = -slack
    chosen = candidates(passes, utilities, prices, rng.permutation(200), per_row=10)
    assert chosen is not None
    raised = prices + rise * rng.random(200)
    lowered = utilities - rise * rng.random(200)
    content = chosen.content(lowered, raised)
    others = costs.astype(np.float64) - raised
    others[np.divmod(chosen.keys, 200)] = -np.inf
    assert (others.max(axis=1) <= lowered)[content].all()
    if rise < 0.5:
        assert content.any()


def test_keys_are_joined_without_repetition() -> None:
    joined = with_keys(np.array([1, 4, 9]), np.array([0, 4, 5, 12]))
    assert joined.tolist() == [0, 1, 4, 5, 9, 12]
