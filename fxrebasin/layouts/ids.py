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


SPARSE = 4
"""Up to how many times as many numbers as there are values a table of them is quicker to fill than
the values are to sort."""


def sorted_set(values: Ids) -> Ids:
    """The distinct values in order; for the sizes met here, faster than hashing."""
    if values.size > 64:
        least = int(values.min())
        width = int(values.max()) - least + 1
        if width <= SPARSE * values.size:
            there = np.zeros(width, dtype=bool)
            there[(values - least).ravel()] = True
            return np.flatnonzero(there) + least
    values = np.sort(values, axis=None)
    first = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=first[1:])
    return values[first]


def count_distinct(values: NDArray[np.generic]) -> int:
    """How many different values there are; for the sizes met here, faster than hashing."""
    values = np.sort(values, axis=None)
    return int(np.count_nonzero(values[1:] != values[:-1])) + (values.size > 0)


PIECE = 1 << 15
"""How many integers are scattered at a time: as many as the cache holds."""


def mix(values: NDArray[np.generic] | int, salt: int = 0) -> Hashes:
    """Scatter integers over 64 bits (splitmix64), so that sums of them act as multiset hashes."""
    x = np.asarray(values).astype(np.uint64)
    flat = x.reshape(-1) if x.flags.c_contiguous else x.ravel(order="K")
    for begin in range(0, len(flat), PIECE):
        _scatter(flat[begin : begin + PIECE], np.uint64((salt + 1) * _GOLDEN % 2**64))
    return x[()]


def _scatter(x: Hashes, salt: np.uint64) -> None:
    x += salt
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)


def first_alike(rows: Ids | Hashes) -> Ids:
    """Per entry, the first place in its row that holds the same.

    >>> first_alike(np.array([[7, 5, 7, 5]])).tolist()
    [[0, 1, 0, 1]]
    """
    order = np.argsort(rows, axis=1, kind="stable")
    ordered = np.take_along_axis(rows, order, axis=1)
    begins = np.zeros(rows.shape, dtype=np.int64)
    begins[:, 1:] = np.where(ordered[:, 1:] != ordered[:, :-1], np.arange(1, rows.shape[1]), 0)
    first = np.take_along_axis(order, np.maximum.accumulate(begins, axis=1), axis=1)
    places = np.empty_like(first)
    np.put_along_axis(places, order, first, axis=1)
    return places
