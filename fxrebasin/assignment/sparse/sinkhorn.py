"""Start prices where many rows want the same columns: Sinkhorn's iteration on some of the rows.

At a temperature, a row demands each column by a softmax of what is left after the price; prices
rise where the demand exceeds the supply. Some of the rows tell enough about the demand.

Source: M. Cuturi, "Sinkhorn distances" (2013); J. J. Kosowsky and A. L. Yuille, "The invisible
hand algorithm" (1994), for the falling temperature.
"""

from __future__ import annotations

import numpy as np

from ..problem import Vector
from .scans import Scans

TEMPERATURES = np.geomspace(1.0, 0.2, 4)


def sinkhorn(scans: Scans, scale: float) -> Vector:
    """Prices ``(n,)`` that balance demand and supply; ``scale`` is the spread of the costs."""
    n = scans.n
    # Any order of the rows may mean something, hence random ones, and the same in every call.
    asked = max(n // 8, min(n // 4, 256))
    rows = np.sort(np.random.default_rng(0).choice(n, asked, replace=False))
    prices = np.zeros(n)
    for temperature in scale * TEMPERATURES:
        demand = scans.demand(rows, prices, temperature) * (n / len(rows))
        prices += temperature * np.log(np.maximum(demand, 1e-30))
    return prices
