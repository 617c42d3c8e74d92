"""Outer products are sorted, and told from what is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from benchmarks.assignment.kinds import matrix
from fxrebasin.assignment.sparse.chain import chain_prices, is_outer_product
from fxrebasin.assignment.sparse.scans import HostScans

torch.set_num_threads(1)


def test_chain_prices_sort_outer_products() -> None:
    def centred(rows: NDArray[np.floating]) -> NDArray[np.float64]:
        return rows - rows.mean(axis=1, dtype=np.float64)[:, None]

    rng = np.random.default_rng(0)
    constants = rng.standard_normal((50, 1)) + rng.standard_normal(50)
    costs = matrix("rank1", 50) + constants
    for some in (costs[::5], costs[::6], costs[:2]):
        assert is_outer_product(centred(some))
    assert not is_outer_product(centred(costs[:1]))  # which tells nothing
    columns = (costs - chain_prices(HostScans(costs, threads=1))).argmax(axis=1)
    best = costs[linear_sum_assignment(costs, maximize=True)].sum()
    assert costs[np.arange(50), columns].sum() == pytest.approx(best, rel=1e-4)
    for kind in ("rank8", "gauss", "spec"):
        assert not is_outer_product(centred(matrix(kind, 50)[::5]))
    outlier = matrix("gauss", 50)
    outlier[5, 7] = 1e6
    assert not is_outer_product(centred(outlier[::5]))
