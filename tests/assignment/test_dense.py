"""Prices for what scipy found."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from benchmarks.assignment.kinds import matrix
from fxrebasin.assignment.dense import recover_prices

torch.set_num_threads(1)


def test_recovered_prices_prove_what_scipy_found() -> None:
    costs = matrix("rank8", 120)
    _, columns = linear_sum_assignment(costs, maximize=True)
    prices, gap = recover_prices(costs, columns)
    exact = costs.astype(np.float64)
    value = exact[np.arange(120), columns].sum()
    assert gap == pytest.approx((exact - prices).max(axis=1).sum() + prices.sum() - value, abs=1e-9)
    assert gap < 1e-9
