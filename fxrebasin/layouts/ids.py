"""Arrays of unit ids, and hashes of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
"""Units, by number; an array of them has the shape of a part of a tensor."""

Hashes = NDArray[np.uint64]

NOWHERE = 0
"""The unit of entries that no unit reaches, such as zeros padded onto an axis. Always pinned."""

_GOLDEN = 0x9E3779B97F4A7C15


def sorted_set(values: Ids) -> Ids:
    """The distinct values in order; for the sizes met here, faster than hashing."""
    values = np.sort(values, axis=None)
    first = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=first[1:])
    return values[first]


def mix(values: NDArray[np.generic] | int, salt: int = 0) -> Hashes:
    """Scatter integers over 64 bits (splitmix64), so that sums of them act as multiset hashes."""
    with np.errstate(over="ignore"):
        x = np.asarray(values).astype(np.uint64) + np.uint64((salt + 1) * _GOLDEN % 2**64)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))
