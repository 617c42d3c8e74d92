"""Pairs of constant rows and columns are found and set aside."""

from __future__ import annotations

import torch

from benchmarks.assignment.kinds import matrix
from fxrebasin.assignment.sparse.dead_units import dead_pairs
from fxrebasin.assignment.sparse.scans import HostScans

torch.set_num_threads(1)


def test_dead_pairs_are_found() -> None:
    costs = torch.from_numpy(matrix("gauss", 64))
    costs[[3, 9, 20]] = 0.5
    costs[:, [1, 5]] = 0.5
    passes = HostScans(costs.numpy(), 1)
    dead = dead_pairs(passes, *passes.constant())
    assert dead is not None
    assert dead.rows.tolist() == [3, 9] and dead.columns.tolist() == [1, 5]
    assert dead.constant == 0.5
    assert dead_pairs(passes, dead.rows[:1], dead.columns) is None
