"""All that the sparse solver asks of a whole matrix, as a handful of passes over it.

A pass reads the matrix once, block of rows by block of rows, so that what it computes stays in the
cache. It works in float32, whatever the costs are; only entries and rows are read out as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..problem import Indices, Vector, evenly

Block = NDArray[np.float32]

BLOCK_ENTRIES = 2**17
"""Half a megabyte of float32: two such buffers fit the second-level cache of a core."""
EXPONENT = 2.0**23
"""What the bits of a float32, read as an integer, grow by when it doubles."""
ONE = 127 * EXPONENT
"""The bits of 1.0, read as an integer."""
PROBES = 4
"""Entries of a row or column that are compared before all are."""
ENTRIES_PER_THREAD = 2**19
"""Below that, starting a thread takes longer than what it does."""


class Best(NamedTuple):
    """For rows of ``C - prices``: the column of the largest entry, and the two largest."""

    columns: Indices
    first: Vector
    second: Vector


class Scans(Protocol):
    """Scans over one matrix C of n rows and n columns; vectors are numpy's, indices int64."""

    n: int
    is_exact: bool
    """Whether single precision holds every entry of C."""

    def matrix(self) -> NDArray[np.floating]:
        """C, in the memory of the processor."""

    def part(self, rows: Indices, columns: Indices) -> Scans:
        """Scans over some rows and columns of C."""

    def constant(self) -> tuple[Indices, Indices]:
        """The rows, and the columns, whose entries are all the same."""

    def root_mean_square(self) -> float:
        """Of all entries; infinite or zero where single precision cannot hold their squares."""

    def times(self, vector: Vector) -> Vector:
        """``C x``."""

    def times_transposed(self, vector: Vector) -> Vector:
        """``C^T x``."""

    def take(self, rows: Indices) -> NDArray[np.floating]:
        """Some rows of C, as they are."""

    def values(self, rows: Indices, columns: Indices) -> Vector:
        """Single entries of C, in float64."""

    def best(self, prices: Vector, rows: Indices | None = None) -> Best:
        """The two best columns of every row, or of some rows, in ``C - prices``."""

    def favourites(self, begin: int, end: int) -> Indices:
        """The column of the largest entry of C itself in each row from ``begin`` to ``end``."""

    def transform(self, prices: Vector) -> tuple[Vector, Vector]:
        """Utilities ``u_i = max_j C_ij - v_j``, and the slack ``min_i u_i + v_j - C_ij``."""

    def above(
        self,
        offsets: Vector,
        bounds: Vector,
        limit: int,
        rows: Indices | None = None,
        also: Indices | None = None,
    ) -> Indices | None:
        """Where ``C_ij - offsets_j >= bounds_i``: keys ``i n + j``, sorted if the rows are; None
        beyond a limit. Of all rows, or of some, which have a bound each, and may have a column each
        that is ``also`` among them."""

    def demand(self, rows: Indices, prices: Vector, temperature: float) -> Vector:
        """Column sums of ``softmax_j((C_ij - v_j) / temperature)`` over some rows i, to 10 %."""


class HostScans:
    """Scans over a matrix in the memory of the processor, by numpy.

    Neither by torch nor by a BLAS: their threads meet after every operation, and one that has to
    wait for a processor stalls them all. Threads here meet once per pass.
    """

    def __init__(self, costs: NDArray[np.floating], threads: int) -> None:
        self.costs = np.ascontiguousarray(costs)
        with np.errstate(over="ignore"):
            self.work = np.ascontiguousarray(costs, dtype=np.float32)
        self.n = len(costs)
        self.is_exact = costs.dtype == np.float32
        self.threads = threads
        self.block = max(1, BLOCK_ENTRIES // self.n)

    def matrix(self) -> NDArray[np.floating]:
        return self.costs

    def part(self, rows: Indices, columns: Indices) -> Scans:
        part = np.empty((len(rows), len(columns)), dtype=self.costs.dtype)
        for low in range(0, len(rows), self.block):
            some = slice(low, low + self.block)
            # Any mode but the default writes to the output without a buffer.
            self.costs[rows[some]].take(columns, axis=1, mode="clip", out=part[some])
        return HostScans(part, self.threads)

    def constant(self) -> tuple[Indices, Indices]:
        return _constant(self.costs, 1), _constant(self.costs, 0)

    def root_mean_square(self) -> float:
        squares = np.einsum("ij,ij->i", self.work, self.work)
        return math.sqrt(squares.sum(dtype=np.float64)) / self.n

    def times(self, vector: Vector) -> Vector:
        product = np.einsum("ij,j->i", self.work, vector.astype(np.float32))
        return product.astype(np.float64)

    def times_transposed(self, vector: Vector) -> Vector:
        product = np.einsum("ij,i->j", self.work, vector.astype(np.float32))
        return product.astype(np.float64)

    def take(self, rows: Indices) -> NDArray[np.floating]:
        return self.costs[rows]

    def values(self, rows: Indices, columns: Indices) -> Vector:
        return self.costs.ravel()[rows * self.n + columns].astype(np.float64)

    def favourites(self, begin: int, end: int) -> Indices:
        return self.costs[begin:end].argmax(axis=1)

    def best(self, prices: Vector, rows: Indices | None = None) -> Best:
        m = self.n if rows is None else len(rows)
        columns = np.empty(m, dtype=np.int64)
        first, second = np.empty(m, dtype=np.float32), np.empty(m, dtype=np.float32)
        offsets = prices.astype(np.float32)

        def search(start: int, stop: int) -> None:
            for part, net in self._net(start, stop, offsets, rows):
                k = np.arange(len(net))
                columns[part] = best = net.argmax(axis=1)  # faster than the maximum alone
                first[part] = net[k, best]
                net[k, best] = -np.inf
                second[part] = net[k, net.argmax(axis=1)]

        self._in_strips(m, search)
        return Best(columns, first.astype(np.float64), second.astype(np.float64))

    def transform(self, prices: Vector) -> tuple[Vector, Vector]:
        utilities = np.empty(self.n, dtype=np.float32)
        offsets = prices.astype(np.float32)

        def reduce(start: int, stop: int) -> NDArray[np.float32]:
            nearest = np.full(self.n, -np.inf, dtype=np.float32)
            for part, net in self._net(start, stop, offsets):
                utilities[part] = net[np.arange(len(net)), net.argmax(axis=1)]
                net -= utilities[part, None]
                np.maximum(nearest, net.max(axis=0), out=nearest)
            return nearest

        nearest = np.max(self._in_strips(self.n, reduce), axis=0)
        return utilities.astype(np.float64), -nearest.astype(np.float64)

    def above(
        self,
        offsets: Vector,
        bounds: Vector,
        limit: int,
        rows: Indices | None = None,
        also: Indices | None = None,
    ) -> Indices | None:
        m = self.n if rows is None else len(rows)
        lowest = bounds.astype(np.float32)
        subtracted = offsets.astype(np.float32)

        def search(start: int, stop: int) -> list[Indices] | None:
            mask = np.empty((self.block, self.n), dtype=bool)
            found, total = [], 0
            for part, net in self._net(start, stop, subtracted, rows):
                hits = mask[: len(net)]
                np.greater_equal(net, lowest[part, None], out=hits)
                if also is not None:
                    hits[np.arange(len(net)), also[part]] = True
                keys = np.flatnonzero(hits)
                total += len(keys)
                if total > limit:
                    return None
                keys += part.start * self.n
                found.append(keys)
            return found

        strips = self._in_strips(m, search)
        found = [keys for strip in strips if strip is not None for keys in strip]
        if any(strip is None for strip in strips) or sum(map(len, found)) > limit:
            return None
        return in_rows(np.concatenate(found), self.n, rows)

    def demand(self, rows: Indices, prices: Vector, temperature: float) -> Vector:
        unit = EXPONENT / (temperature * np.log(2))
        offsets = (prices * unit).astype(np.float32)

        def mass(start: int, stop: int) -> NDArray[np.float32]:
            total = np.zeros(self.n, dtype=np.float32)
            for low in range(start, stop, self.block):
                scores = self.work[rows[low : min(low + self.block, stop)]]
                scores *= np.float32(unit)
                scores -= offsets
                scores -= scores.max(axis=1, keepdims=True)
                # Anything smaller would be a denormal number, which processors are slow with.
                np.maximum(scores, np.float32(-40 * EXPONENT), out=scores)
                scores += np.float32(ONE)
                # The bits of a number, read as an integer, are its logarithm to a few per cent.
                weights = scores.astype(np.int32).view(np.float32)
                total += np.einsum("ij,i->j", weights, 1 / weights.sum(axis=1))
            return total

        return np.sum(self._in_strips(len(rows), mass), axis=0, dtype=np.float64)

    def _net(
        self, start: int, stop: int, offsets: Block, rows: Indices | None = None
    ) -> Iterator[tuple[slice, Block]]:
        """``C - offsets``, block by block, in a buffer that the next block overwrites."""
        buffer = np.empty((min(self.block, stop - start), self.n), dtype=np.float32)
        for low in range(start, stop, self.block):
            part = slice(low, min(low + self.block, stop))
            net = buffer[: part.stop - low]
            block = self.work[part] if rows is None else self.work[rows[part]]
            np.subtract(block, offsets, out=net)
            yield part, net

    def _in_strips(self, m: int, work: Callable[[int, int], object]) -> list:
        """Call ``work(start, stop)`` on as many parts of m rows as there are threads to use."""
        count = max(1, min(self.threads, m * self.n // ENTRIES_PER_THREAD))
        if count == 1:
            return [work(0, m)]
        edges = [m * k // count for k in range(count + 1)]
        with ThreadPoolExecutor(count - 1) as pool:
            others = pool.map(work, edges[1:-1], edges[2:])
            return [work(0, edges[1]), *others]


def in_rows(keys: Indices, n: int, rows: Indices | None) -> Indices:
    """Keys of entries of some rows, as keys of the same entries of the whole matrix."""
    if rows is None:
        return keys
    i, j = np.divmod(keys, n)
    return rows[i] * n + j


def _constant(costs: NDArray[np.floating], axis: int) -> Indices:
    """The rows (for axis 1) or columns (for axis 0) whose entries are all the same."""
    n = len(costs)

    def are_same(lines: NDArray[np.floating]) -> NDArray[np.bool_]:
        return (lines == lines.take([0], axis=axis)).all(axis=axis)

    suspects = np.flatnonzero(are_same(costs.take(evenly(n, PROBES), axis=axis)))
    if not len(suspects):
        return suspects
    return suspects[are_same(costs.take(suspects, axis=1 - axis))]
