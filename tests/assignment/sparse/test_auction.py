"""An auction leaves rows content within its step."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.assignment.kinds import matrix
from fxrebasin.assignment.sparse.auction import FREE, Bidding, auction, completed
from fxrebasin.assignment.sparse.scans import HostScans

torch.set_num_threads(1)


def test_an_auction_leaves_rows_content_within_its_step() -> None:
    passes = HostScans(matrix("gauss", 100), threads=1)
    bids = passes.best(np.zeros(100))
    prices, columns = auction(passes, np.zeros(100), bids, 2.0, Bidding(0.05, 12, 0.1))
    matched = np.flatnonzero(columns != FREE)
    assert len(matched) > 70
    assert len(set(columns[matched])) == len(matched)
    net = passes.costs - prices
    assert (net[matched, columns[matched]] >= net[matched].max(axis=1) - 0.1 - 1e-5).all()
    full = completed(passes, prices, columns)
    assert sorted(full) == list(range(100))
    assert (full[matched] == columns[matched]).all()
