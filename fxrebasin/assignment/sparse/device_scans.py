"""The passes of the sparse solver over a matrix on any device, by torch.

The same as :class:`~.scans.HostScans`, for matrices in the memory of an accelerator: whole rows
are reduced there, and vectors and the few candidates are all that travels.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..problem import Indices, Vector
from .scans import Best, in_rows

BLOCK_ENTRIES = 2**26
"""A quarter of a gigabyte of float32: what a pass needs beside the matrix."""


class DeviceScans:
    """Scans over a matrix on the device it is on."""

    def __init__(self, costs: Tensor) -> None:
        self.costs = costs
        self.work = costs.float()
        self.n = len(costs)
        self.is_exact = costs.dtype == torch.float32
        self.block = max(1, BLOCK_ENTRIES // self.n)

    def matrix(self) -> NDArray[np.floating]:
        return self.costs.cpu().numpy()

    def part(self, rows: Indices, columns: Indices) -> DeviceScans:
        return DeviceScans(self.costs[self._indices(rows)][:, self._indices(columns)])

    def constant(self) -> tuple[Indices, Indices]:
        rows, columns = (
            (c == c[:, :1]).all(dim=1).nonzero()[:, 0] for c in (self.costs, self.costs.T)
        )
        return rows.cpu().numpy(), columns.cpu().numpy()

    def root_mean_square(self) -> float:
        return math.sqrt(float(self.work.square().sum())) / self.n

    def times(self, vector: Vector) -> Vector:
        return _to_host(self.work @ self._floats(vector))

    def times_transposed(self, vector: Vector) -> Vector:
        return _to_host(self.work.T @ self._floats(vector))

    def take(self, rows: Indices) -> NDArray[np.floating]:
        return self.costs[self._indices(rows)].cpu().numpy()

    def values(self, rows: Indices, columns: Indices) -> Vector:
        return _to_host(self.costs[self._indices(rows), self._indices(columns)])

    def favourites(self, begin: int, end: int) -> Indices:
        return self.costs[begin:end].argmax(dim=1).cpu().numpy()

    def best(self, prices: Vector, rows: Indices | None = None) -> Best:
        offsets = self._floats(prices)
        columns, first, second = [], [], []
        for part in self._parts(self.n if rows is None else len(rows)):
            net = self.work[part if rows is None else self._indices(rows[part])] - offsets
            most, at = net.max(dim=1)
            net.scatter_(1, at[:, None], -torch.inf)
            columns.append(at)
            first.append(most)
            second.append(net.amax(dim=1))
        highest, next_highest = (_to_host(torch.cat(x)) for x in (first, second))
        return Best(torch.cat(columns).cpu().numpy(), highest, next_highest)

    def transform(self, prices: Vector) -> tuple[Vector, Vector]:
        offsets = self._floats(prices)
        nearest = torch.full_like(offsets, -torch.inf)
        utilities = []
        for part in self._parts(self.n):
            net = self.work[part] - offsets
            most = net.amax(dim=1)
            nearest = torch.maximum(nearest, (net - most[:, None]).amax(dim=0))
            utilities.append(most)
        return _to_host(torch.cat(utilities)), -_to_host(nearest)

    def above(
        self,
        offsets: Vector,
        bounds: Vector,
        limit: int,
        rows: Indices | None = None,
        also: Indices | None = None,
    ) -> Indices | None:
        subtracted, lowest = self._floats(offsets), self._floats(bounds)
        found, total = [], 0
        for part in self._parts(self.n if rows is None else len(rows)):
            block = self.work[part if rows is None else self._indices(rows[part])]
            hits = block - subtracted >= lowest[part, None]
            if also is not None:
                hits.scatter_(1, self._indices(also[part])[:, None], True)
            total += int(hits.sum())
            if total > limit:
                return None
            found.append(hits.reshape(-1).nonzero()[:, 0] + part.start * self.n)
        return in_rows(torch.cat(found).cpu().numpy(), self.n, rows)

    def demand(self, rows: Indices, prices: Vector, temperature: float) -> Vector:
        offsets = self._floats(prices)
        total = torch.zeros_like(offsets)
        for part in self._parts(len(rows)):
            net = self.work[self._indices(rows[part])] - offsets
            total += torch.softmax(net / temperature, dim=1).sum(dim=0)
        return _to_host(total)

    def _parts(self, m: int) -> list[slice]:
        return [slice(low, min(low + self.block, m)) for low in range(0, m, self.block)]

    def _floats(self, vector: Vector) -> Tensor:
        return torch.from_numpy(vector).to(self.work.device, torch.float32)

    def _indices(self, indices: Indices) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(indices)).to(self.work.device)


def _to_host(vector: Tensor) -> Vector:
    return vector.cpu().double().numpy()
