"""Batches of small problems in one kernel, for devices that Triton compiles for.

A program solves a problem whole, with the Hungarian method row by row: on a problem of 64 rows, the
tensor operations of :mod:`.augmenting_paths` take longer to be launched than to be done. Programs
are of one warp, which need not wait for others, and keep prices and matching in its registers.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

FAR = 2**62
"""More than any distance: gains are below ``2**60``, and prices below twice that."""


@triton.jit
def _at(vector, places, place):  # type: ignore[no-untyped-def]  # the types are those of blocks
    """One entry of a vector that is spread over threads."""
    return tl.sum(tl.where(places == place, vector, 0), axis=0)


@triton.jit
def _solve(  # type: ignore[no-untyped-def]  # the types are those of pointers
    gains, prices, columns, n, far: tl.constexpr, width: tl.constexpr
):
    problem = tl.program_id(0).to(tl.int64)
    gains += problem * n * n
    places = tl.arange(0, width)
    exists = places < n
    price = tl.load(prices + problem * n + places, mask=exists, other=0)
    row_of = tl.full((width,), -1, tl.int32)
    column_of = tl.full((width,), -1, tl.int32)

    for row in range(n):
        gain = tl.load(gains + row * n + places, mask=exists, other=0)
        net = tl.where(exists, gain - price, -far)
        _, wanted = tl.max(net, axis=0, return_indices=True)
        is_free = _at(row_of, places, wanted) < 0
        row_of = tl.where((places == wanted) & is_free, row, row_of)
        column_of = tl.where((places == row) & is_free, wanted, column_of)

    for row in range(n):
        if _at(column_of, places, row) < 0:
            gain = tl.load(gains + row * n + places, mask=exists, other=0)
            utility = tl.max(tl.where(exists, gain - price, -far), axis=0)
            distance = tl.where(exists, utility + price - gain, far)
            previous = tl.full((width,), 0, tl.int32) + row
            is_open = exists
            reached, column = tl.min(distance, axis=0, return_indices=True)
            owner = _at(row_of, places, column)
            while owner >= 0:
                is_open = is_open & (places != column)
                gain = tl.load(gains + owner * n + places, mask=exists, other=0)
                utility = _at(gain - price, places, column)
                through = reached + (utility + price - gain)
                is_closer = is_open & (through < distance)
                distance = tl.where(is_closer, through, distance)
                previous = tl.where(is_closer, owner, previous)
                ahead = tl.where(is_open, distance, far)
                reached, column = tl.min(ahead, axis=0, return_indices=True)
                owner = _at(row_of, places, column)
            price += tl.where(exists & (is_open == 0), reached - distance, 0)
            source = _at(previous, places, column)
            row_of = tl.where(places == column, source, row_of)
            following = _at(column_of, places, source)
            column_of = tl.where(places == source, column, column_of)
            while following >= 0:
                column = following
                source = _at(previous, places, column)
                row_of = tl.where(places == column, source, row_of)
                following = _at(column_of, places, source)
                column_of = tl.where(places == source, column, column_of)

    tl.store(prices + problem * n + places, price, mask=exists)
    tl.store(columns + problem * n + places, column_of.to(tl.int64), mask=exists)


def solve_small(gains: Tensor, prices: Tensor) -> tuple[Tensor, Tensor]:
    """Optimal columns, and the prices that prove it.

    Args:
        gains: ``(b, n, n)``, int64, from 0 to less than ``2**60``, on a device.
        prices: of columns, to start from: ``(b, n)``, int64, in the same range.

    Returns:
        The column of each row, and the price of each column; ``(b, n)``, int64.
    """
    b, n, _ = gains.shape
    found = prices.clone(memory_format=torch.contiguous_format)
    columns = torch.empty_like(found)
    with torch.cuda.device_of(found):
        _solve[(b,)](
            gains.contiguous(), found, columns, n, far=FAR,
            width=triton.next_power_of_2(n), num_warps=1,
        )  # fmt: skip
    return columns, found
