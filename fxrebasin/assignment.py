"""Placeholder until the package lands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Assignment:
    columns: Tensor
    value: Tensor
    prices: Tensor | None
    gap: Tensor | None

    @staticmethod
    def stack(parts):
        if any(p is None for p in parts): return None
        if len(parts) == 1: return parts[0]
        prices = None if any(p.prices is None for p in parts) else torch.cat([p.prices for p in parts])
        return Assignment(torch.cat([p.columns for p in parts]), torch.cat([p.value for p in parts]), prices, None)

    def unstack(self):
        return [Assignment(self.columns[k:k+1], self.value[k:k+1], None if self.prices is None else self.prices[k:k+1], None) for k in range(len(self.columns))]


def assign(
    costs: Tensor, *, warm: Assignment | None = None, certify: bool = False, name: str = "costs"
) -> Assignment:
    c = costs.cpu().numpy()
    cols = np.stack([linear_sum_assignment(x, maximize=True)[1] for x in c])
    columns = torch.from_numpy(cols).to(costs.device)
    value = costs.gather(-1, columns[..., None]).sum((-2, -1), dtype=torch.float64)
    return Assignment(columns, value, None, None)
