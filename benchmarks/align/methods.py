"""The ways to align that are compared, each behind the same function.

A new way is one more entry of ``METHODS``.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

import fxrebasin as fr
from benchmarks.align import git_rebasin
from benchmarks.align.checkpoints import Pair
from benchmarks.align.plain_spec import plain_spec
from fxrebasin.matching.solvers import Solver, coordinate_descent


@dataclass(frozen=True, eq=False)
class Solution:
    """The aligned weights of B, and what it took to find them."""

    state: dict[str, Tensor]
    discovery: float
    """Seconds to find out what may be permuted."""
    solve: float
    """Seconds from there to the aligned weights."""
    sweeps: int
    blocks: int
    """Sets of units that were permuted, a nested one counted once per parent."""
    units: int
    permutation: fr.Transform | None = None
    """What was done, where it can be told."""


Method = Callable[[Pair, int], Solution]
"""Align a pair, with a seed for whatever is drawn at random; the pair is not changed."""


def ours(pair: Pair, seed: int, solver: Solver = coordinate_descent, **options: Any) -> Solution:
    """``analyze`` and ``weight_matching``."""
    clock = Clock()
    symmetry = fr.analyze(pair.b, args=(pair.inputs,))
    discovery = clock.lap()
    state = pair.b.state_dict()
    found = fr.weight_matching(
        symmetry, state, to=pair.a.state_dict(), solver=solver, seed=seed, progress=False, **options
    )
    moved = found.permutation.apply(state)
    return Solution(
        moved,
        discovery,
        clock.lap(),
        found.sweeps,
        symmetry.block_count,
        symmetry.movable_units,
        found.permutation,
    )


def as_high(pair: Pair, seed: int, gained: float, **options: Any) -> Solution:
    """Ours, stopped as soon as it has gained so much."""

    def stop_if_reached(step: fr.Step) -> None:
        if step.gained >= gained:
            raise StopIteration

    return ours(pair, seed, callback=stop_if_reached, **options)


def plain(pair: Pair, seed: int) -> Solution:
    """Algorithm 1 of Git Re-Basin, on what its spec can say of the group that ``analyze`` finds."""
    clock = Clock()
    symmetry = fr.analyze(pair.b, args=(pair.inputs,))
    spec = plain_spec(symmetry)
    discovery = clock.lap()
    state = pair.b.state_dict()
    found = git_rebasin.match(spec, state, to=pair.a.state_dict(), seed=seed)
    indices = {name: taken[None] for name, taken in found.permutations.items()}
    permutation = fr.Permutation(symmetry, {**fr.Permutation.identity(symmetry).indices, **indices})
    moved = permutation.apply(state)
    return Solution(
        moved,
        discovery,
        clock.lap(),
        found.sweeps,
        len(spec.sizes),
        sum(spec.sizes.values()),
        permutation,
    )


def rebasin(pair: Pair, seed: int) -> Solution:
    """The package rebasin from PyPI."""
    from rebasin import PermutationCoordinateDescent

    sweeps = 0

    class Counted(PermutationCoordinateDescent):
        def _calculate_permutations_step(self, *args: object) -> bool:
            nonlocal sweeps
            sweeps += 1
            return bool(super()._calculate_permutations_step(*args))

    moved = copy.deepcopy(pair.b)  # which is changed in place
    torch.manual_seed(seed)
    clock = Clock()
    descent = Counted(pair.a, moved, pair.inputs)
    discovery = clock.lap()
    descent.rebasin()
    solve = clock.lap()
    sizes = [len(p) for p, _ in descent.pinit.model_graph.permutation_to_info]
    return Solution(moved.state_dict(), discovery, solve, sweeps, len(sizes), sum(sizes))


class Clock:
    """Seconds between laps."""

    def __init__(self) -> None:
        self.last = time.perf_counter()

    def lap(self) -> float:
        before, self.last = self.last, time.perf_counter()
        return self.last - before


MINUTE = fr.Budget(seconds=60)

OTHERS = ("plain", "rebasin")

METHODS: dict[str, Method] = {
    "ours": ours,
    "ours for matrices": partial(ours, vector_weight=0.0),
    "ours without sweeps": partial(ours, solver=partial(coordinate_descent, max_sweeps=0)),
    "ours with budget": partial(ours, solver=partial(coordinate_descent, budget=MINUTE)),
    "plain": plain,
    "rebasin": rebasin,
}
