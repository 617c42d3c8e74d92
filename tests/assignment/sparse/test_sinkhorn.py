"""Prices by Sinkhorn's iteration."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.assignment.kinds import matrix
from fxrebasin.assignment.problem import Vector
from fxrebasin.assignment.sparse.scans import HostScans
from fxrebasin.assignment.sparse.sinkhorn import sinkhorn

torch.set_num_threads(1)


def test_sinkhorn_settles_what_all_rows_want() -> None:
    passes = HostScans(matrix("rank8", 400), threads=1)

    def wanted(prices: Vector) -> int:
        return len(np.unique(passes.best(prices).columns))

    assert wanted(np.zeros(400)) < 120
    assert wanted(sinkhorn(passes, float(passes.costs.std()))) > 200
