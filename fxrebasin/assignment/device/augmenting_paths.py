"""Batches of linear assignment problems in tensor operations, on any device.

The Hungarian method with all unmatched rows searching at once. Rows and columns have prices, never
below the gain of a pair together, and equal to it for the pairs of the matching. A phase

1. finds the shortest path from the unmatched rows to every column, where a pair is as long as its
   prices exceed its gain: Bellman-Ford, whose passes are matrix-vector products in the algebra of
   minimum and sum, so that whole batches take the same few operations;
2. moves the prices by the distances, after which every path has length zero;
3. matches each unmatched row that is nearest to some unmatched column with the nearest of them,
   along its path. Paths from different rows have no vertex in common.

Then rows and columns change places. From one side alone, a row to which all columns are about the
same is nearest to every unmatched column, and the phase matches only that row.

A finished problem has no unmatched rows: nothing gets closer, and its prices and its matching stay.
The host waits once per phase, and once per ``PASSES_PER_WAIT`` passes.

Where there is a kernel for it, small problems are solved whole by that instead.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from .fixed_point import GAIN_BITS, fixed_point, inverse, starting_prices
from .kernels import kernels

if TYPE_CHECKING:
    from .fused import FusedPasses

FAR = 2 ** (GAIN_BITS + 3)
"""More than any distance: prices stay within -1 and 2 times the largest gain."""

PASSES_PER_WAIT = 4
FUSED_PASSES_PER_WAIT = 8
"""A fused pass takes less time, compared with which the host waits longer."""
SMALL_UP_TO = 256
"""Rows up to which one kernel that solves problems whole is faster than a kernel per pass."""
PASSES_PER_DOUBLING = 128
"""Passes allowed for each doubling of n; only matrices of rank one or so were seen to need more."""


class _Matching(NamedTuple):
    """Prices and a partial matching; ``n`` sources (rows, say) search for ``n`` targets.

    Indices are -1 for what is not matched. Shapes ``(b, n, n)`` and ``(b, n)``, all int64.
    """

    gains: Tensor
    reversed_gains: Tensor
    source_prices: Tensor
    target_prices: Tensor
    source_of: Tensor
    target_of: Tensor

    def reversed(self) -> _Matching:
        """Targets search for sources."""
        return _Matching(
            self.reversed_gains,
            self.gains,
            self.target_prices,
            self.source_prices,
            self.target_of,
            self.source_of,
        )


class _Paths(NamedTuple):
    """To each target its distance and the source before it, shape ``(b, n)``, int64."""

    distances: Tensor
    previous: Tensor
    passes: int
    converged: bool


def solve_augmenting_paths(costs: Tensor, *, prices: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Solve a batch of linear assignment problems, with a certificate.

    Args:
        costs: gains to maximise, shape ``(b, n, n)``, float32 or float64, finite, on any device.
        prices: column prices to start from, ``(b, n)``, such as those of a similar problem.

    Returns:
        The column of each row, ``(b, n)``, int64, and column prices, ``(b, n)``, float64. With
        the row prices ``max_j costs[i, j] - prices[j]``, the sum of all prices bounds the value
        of every assignment, and is that of the columns returned.

        Both are optimal, exactly, for integers that stand for entries within ``2**-52`` of the
        range of the matrix. So value and bound differ by ``n * 2**-51`` times the range at most,
        and by what float64 loses in summing them. Results are the same in every run.

    Problems that take unusually many passes, such as matrices of rank one, are handed to
    ``scipy.optimize.linear_sum_assignment`` on the host.

    Source: H. W. Kuhn, "The Hungarian method for the assignment problem" (1955), for the prices;
    J. E. Hopcroft and R. M. Karp, "An n^5/2 algorithm for maximum matchings in bipartite graphs"
    (1973), for disjoint paths in phases.

    >>> columns, prices = solve_augmenting_paths(torch.tensor([[[1.0, 2.0], [2.0, 1.0]]]))
    >>> columns.tolist()
    [[1, 0]]
    """
    b, n, _ = costs.shape
    if b == 0 or n < 2:
        zeros = torch.zeros(b, n, device=costs.device)
        return zeros.long(), zeros.double()
    problems = fixed_point(costs)
    fused = kernels(costs.device)
    if fused is not None and n <= SMALL_UP_TO:
        first = problems.gains.amax(1) if prices is None else problems.from_prices(prices)
        columns, integers = fused.solve_small(problems.gains, first)
        return columns, problems.to_prices(integers)
    matching = _first_matching(problems.gains, starting_prices(problems, prices))
    passes_left = PASSES_PER_DOUBLING * math.ceil(math.log2(n))
    while _wait_for_any(matching.target_of < 0):
        paths = _shortest_paths(matching, passes_left)
        if not paths.converged:
            matching = _finish_on_host(matching)
            break
        matching = _augment(matching, paths).reversed()
        passes_left -= paths.passes
    if matching.gains is not problems.gains:
        matching = matching.reversed()
    return matching.target_of, problems.to_prices(matching.target_prices)


def _wait_for_any(flags: Tensor) -> bool:
    """The only place where the host waits for the device, unless it solves problems itself."""
    return bool(flags.any())


def _best_sources(reversed_gains: Tensor, source_prices: Tensor) -> tuple[Tensor, Tensor]:
    """For each target the highest gain net of the source's price, and the source.

    Once per pass, ``O(n^2)``: the matrix is read, a matrix is written, and that is read again.
    :class:`~.fused.FusedPasses` reads the matrix once and writes nothing but vectors.
    """
    values, sources = (reversed_gains - source_prices[:, None]).max(2)
    return values, sources


def _first_matching(gains: Tensor, target_prices: Tensor) -> _Matching:
    """Every source wants one target; every target that is wanted takes one of those."""
    source_prices, wanted = (gains - target_prices[:, None]).max(2)
    sources = torch.arange(gains.shape[1], device=gains.device).expand_as(wanted)
    source_of = torch.full_like(wanted, -1).scatter_reduce(1, wanted, sources, "amax")
    return _Matching(
        gains,
        gains.transpose(1, 2).contiguous(),
        source_prices,
        target_prices,
        source_of,
        inverse(source_of),
    )


def _shortest_paths(matching: _Matching, passes_left: int) -> _Paths:
    """Shortest paths from the free sources, along which every source but the first is matched."""
    fused = kernels(matching.gains.device)
    if fused is not None:
        return _fused_paths(fused.passes, matching, passes_left)
    free = matching.target_of < 0
    own = matching.target_of.clamp(min=0)
    distances = torch.full_like(own, FAR)
    previous = torch.zeros_like(own)
    passes, closer = 0, free
    while passes < passes_left:
        for _ in range(PASSES_PER_WAIT):
            to_source = distances.gather(1, own).masked_fill(free, 0)
            values, sources = _best_sources(
                matching.reversed_gains, matching.source_prices + to_source
            )
            through = matching.target_prices - values
            closer = through < distances
            distances = torch.minimum(through, distances)
            previous = torch.where(closer, sources, previous)
        passes += PASSES_PER_WAIT
        if not _wait_for_any(closer):
            return _Paths(distances, previous, passes, True)
    return _Paths(distances, previous, passes, False)


def _fused_paths(passes: type[FusedPasses], matching: _Matching, passes_left: int) -> _Paths:
    """The same, a kernel for each pass."""
    search = passes(
        matching.reversed_gains,
        matching.source_prices,
        matching.target_prices,
        matching.target_of,
        far=FAR,
    )
    done = 0
    while done < passes_left:
        closer = search.run(FUSED_PASSES_PER_WAIT)
        done += FUSED_PASSES_PER_WAIT
        if not _wait_for_any(closer):
            return _Paths(search.distances, search.previous, done, True)
    return _Paths(search.distances, search.previous, done, False)


def _augment(matching: _Matching, paths: _Paths) -> _Matching:
    """Make the paths tight, and match along those from the free sources to the nearest targets."""
    free = matching.target_of < 0
    own = matching.target_of.clamp(min=0)
    distances = torch.where(paths.distances < FAR, paths.distances, 0)
    source_prices = matching.source_prices + distances.gather(1, own).masked_fill(free, 0)
    target_prices = matching.target_prices - distances

    targets = torch.arange(own.shape[1], device=own.device).expand_as(own)
    starts = free.gather(1, paths.previous)
    steps = [torch.where(starts, targets, own.gather(1, paths.previous))]
    for _ in range(math.ceil(math.log2(paths.passes))):
        steps.append(steps[-1].gather(1, steps[-1]))
    roots = paths.previous.gather(1, steps.pop())

    ends = matching.source_of < 0
    lengths = torch.where(ends, distances, FAR)
    shortest = torch.full_like(lengths, FAR).scatter_reduce(1, roots, lengths, "amin")
    ends &= lengths == shortest.gather(1, roots)
    chosen = torch.full_like(own, -1).scatter_reduce(
        1, roots, torch.where(ends, targets, -1), "amax"
    )
    on_path = (ends & (chosen.gather(1, roots) == targets)).long()
    for step in steps:
        on_path = on_path.scatter_reduce(1, step, on_path, "amax")
    source_of = torch.where(on_path > 0, paths.previous, matching.source_of)
    return matching._replace(
        source_prices=source_prices,
        target_prices=target_prices,
        source_of=source_of,
        target_of=inverse(source_of),
    )


def _finish_on_host(matching: _Matching) -> _Matching:
    """Solve the unfinished problems with scipy, and find prices for its assignments.

    Scipy gets what the gains lack to the sum of the prices: these differences are small where it
    matters, so that little is lost in float64. Bellman-Ford then lifts the price of each target
    until no source prefers it to its own, which takes at most ``n`` passes.
    """
    unfinished = (matching.target_of < 0).any(1).nonzero()[:, 0]
    gains, reversed_gains, source_prices, prices = (t[unfinished] for t in matching[:4])
    net = gains - source_prices[:, :, None] - prices[:, None]
    solved = [linear_sum_assignment(k, maximize=True)[1] for k in net.double().cpu().numpy()]
    own = torch.stack([torch.from_numpy(k) for k in solved]).to(gains.device)
    own_gains = gains.gather(2, own[:, :, None])[:, :, 0]
    for _ in range(math.ceil(own.shape[1] / PASSES_PER_WAIT)):
        before = prices
        for _ in range(PASSES_PER_WAIT):
            values, _ = _best_sources(reversed_gains, own_gains - prices.gather(1, own))
            prices = torch.maximum(prices, values)
        if not _wait_for_any(prices > before):
            break
    source_prices = own_gains - prices.gather(1, own)
    target_of = matching.target_of.index_copy(0, unfinished, own)
    return matching._replace(
        source_prices=matching.source_prices.index_copy(0, unfinished, source_prices),
        target_prices=matching.target_prices.index_copy(0, unfinished, prices),
        target_of=target_of,
        source_of=inverse(target_of),
    )
