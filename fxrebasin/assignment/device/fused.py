"""A pass of the search for shortest paths as one kernel, for devices that Triton compiles for.

The same as the tensor operations of :mod:`.augmenting_paths`, bit for bit but for ties: per target
the best source is found while the gains are read, once, and nothing is written but vectors.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

LEAST = torch.iinfo(torch.int64).min + 1
"""Less than any gain net of prices and distances."""
AT_ONCE = 4096
"""Gains that a program of the kernel holds at a time."""
MOST_SOURCES = 1024
MOST_TARGETS = 16


@triton.jit
def _shorten(  # type: ignore[no-untyped-def]  # the types are those of pointers
    reversed_gains,
    source_prices,
    target_prices,
    own,
    distances,
    shorter,
    previous,
    found,
    n,
    least: tl.constexpr,
    sources_at_once: tl.constexpr,
    targets_at_once: tl.constexpr,
):
    start = tl.program_id(1).to(tl.int64) * n
    targets = tl.program_id(0) * targets_at_once + tl.arange(0, targets_at_once)
    is_target = targets < n
    best = tl.full((targets_at_once,), least, tl.int64)
    at = tl.zeros((targets_at_once,), tl.int64)
    for first in range(0, n, sources_at_once):
        sources = first + tl.arange(0, sources_at_once)
        is_source = sources < n
        taken = tl.load(own + start + sources, mask=is_source, other=-1)
        is_matched = is_source & (taken >= 0)
        away = tl.load(distances + start + taken, mask=is_matched, other=0)
        prices = tl.load(source_prices + start + sources, mask=is_source, other=0) + away
        places = (start + targets[:, None]) * n + sources[None, :]
        is_pair = is_target[:, None] & is_source[None, :]
        gains = tl.load(reversed_gains + places, mask=is_pair, other=0)
        net = tl.where(is_pair, gains - prices[None, :], least)
        most, where = tl.max(net, axis=1, return_indices=True)
        at = tl.where(most > best, where.to(tl.int64) + first, at)
        best = tl.maximum(most, best)
    before = tl.load(distances + start + targets, mask=is_target, other=0)
    through = tl.load(target_prices + start + targets, mask=is_target, other=0) - best
    is_closer = is_target & (through < before)
    tl.store(shorter + start + targets, tl.where(is_closer, through, before), mask=is_target)
    tl.store(previous + start + targets, at, mask=is_closer)
    any_closer = tl.max(is_closer.to(tl.int32), axis=0)
    tl.atomic_max(found, any_closer, mask=any_closer > 0)


class FusedPasses:
    """Distances from the free sources to all targets, shortened pass by pass.

    Args:
        reversed_gains: ``(b, n, n)``, targets first; like all else int64 and contiguous.
        source_prices, target_prices: ``(b, n)``.
        own: ``(b, n)``, the target of each source; -1 where it is free.
        far: the distance of what has not been reached.
    """

    def __init__(
        self,
        reversed_gains: Tensor,
        source_prices: Tensor,
        target_prices: Tensor,
        own: Tensor,
        far: int,
    ) -> None:
        b, n = own.shape
        self._operands = [
            x.contiguous() for x in (reversed_gains, source_prices, target_prices, own)
        ]
        self.distances = torch.full_like(own, far, memory_format=torch.contiguous_format)
        self._spare = torch.empty_like(self.distances)
        self.previous = torch.zeros_like(self.distances)
        self._found = torch.zeros(1, dtype=torch.int32, device=own.device)
        sources = min(MOST_SOURCES, triton.next_power_of_2(n))
        targets = min(MOST_TARGETS, AT_ONCE // sources)
        self._blocks = {"least": LEAST, "sources_at_once": sources, "targets_at_once": targets}
        self._grid = (triton.cdiv(n, targets), b)

    def run(self, count: int) -> Tensor:
        """So many passes, and a flag on the device: did the last one find anything closer?"""
        with torch.cuda.device_of(self._found):
            for k in range(count):
                if k == count - 1:
                    self._found.zero_()
                self._shorten()
        return self._found

    def _shorten(self) -> None:
        _shorten[self._grid](
            *self._operands,
            self.distances,
            self._spare,
            self.previous,
            self._found,
            self.distances.shape[1],
            **self._blocks,
        )
        self.distances, self._spare = self._spare, self.distances
