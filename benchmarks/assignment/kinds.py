"""Matrices of the kinds that solvers of linear assignment problems meet, easy and hard."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]
Generator = np.random.Generator


def _normal(rng: Generator, *shape: int) -> Matrix:
    return rng.standard_normal(shape, dtype=np.float32)


def _copy(noise: float) -> Callable[[Generator, int], Matrix]:
    """Similarities of units and of a permuted, noisy copy of them."""

    def make(rng: Generator, n: int) -> Matrix:
        units = _normal(rng, n, -(-n // 4))
        copied = units[rng.permutation(n)] + np.float32(noise) * _normal(rng, *units.shape)
        return units @ copied.T

    return make


def _product(rng: Generator, n: int, rank: int) -> Matrix:
    return _normal(rng, n, rank) @ _normal(rng, n, rank).T


def _spectrum(rng: Generator, n: int) -> Matrix:
    """Like trained layers: a falling spectrum, and units of very different norms."""
    rank = -(-n // 4)
    falling = np.arange(1, rank + 1, dtype=np.float32) ** -0.5

    def units() -> Matrix:
        return np.exp(_normal(rng, n, 1) / 2) * _normal(rng, n, rank) * falling

    return units() @ units().T


def _dead(rng: Generator, n: int) -> Matrix:
    """A quarter of the rows, and of the columns, is zero."""
    costs = _normal(rng, n, n)
    costs[rng.permutation(n)[: n // 4]] = 0
    costs[:, rng.permutation(n)[: n // 4]] = 0
    return costs


def _quiet(rng: Generator, n: int) -> Matrix:
    """Units that hardly react: few entries say anything, and all others are rounding."""
    few = np.exp(_normal(rng, n, 1)) * np.exp(_normal(rng, 1, n)) * (rng.random((n, n)) < 0.02)
    return (few + 1e-10 * _normal(rng, n, n)).astype(np.float32)


KINDS: dict[str, Callable[[Generator, int], Matrix]] = {
    "gauss": lambda rng, n: _normal(rng, n, n),
    "copy0.3": _copy(0.3),
    "copy1": _copy(1.0),
    "copy3": _copy(3.0),
    "lowr": lambda rng, n: _product(rng, n, -(-n // 4)),
    "spec": _spectrum,
    "rank8": lambda rng, n: _product(rng, n, 8),
    "rank1": lambda rng, n: _product(rng, n, 1),
    "dead": _dead,
    "quiet": _quiet,
    "dup": lambda rng, n: _normal(rng, 8, n)[rng.integers(0, 8, n)],
}
"""Functions of a generator and n; ``dup`` repeats eight rows."""


def matrix(kind: str, n: int, seed: int = 0) -> Matrix:
    """One matrix ``(n, n)``, float32."""
    return np.ascontiguousarray(KINDS[kind](np.random.default_rng(seed), n))
