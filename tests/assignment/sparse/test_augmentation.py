"""Augmenting paths complete what bids began."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.assignment.kinds import matrix
from fxrebasin.assignment.sparse.auction import FREE
from fxrebasin.assignment.sparse.augmentation import augment
from fxrebasin.assignment.sparse.columns import certify
from fxrebasin.assignment.sparse.scans import HostScans

torch.set_num_threads(1)


@pytest.mark.parametrize("kind", ["copy1", "gauss", "spec"])
def test_bids_and_augmenting_paths_complete_an_assignment(kind: str) -> None:
    costs = matrix(kind, 80)
    passes = HostScans(costs, threads=1)
    bids = passes.best(np.zeros(80))
    wanted, first = np.unique(bids.columns, return_index=True)
    columns = np.full(80, FREE)
    columns[first] = wanted
    free = 80 - len(wanted)
    assert free > 0
    found = augment(passes, bids.first, np.zeros(80), columns, 10_000)
    assert found is not None
    prices, taken = found
    verdict = certify(passes, taken, prices, 1e-10, 80 * 80)
    assert verdict is not None and len(verdict.better) == 0
    if kind != "copy1":
        assert augment(passes, bids.first, np.zeros(80), columns, 2) is None
