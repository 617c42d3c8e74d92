"""Ways to align B with A that are compared on trained networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

import fxrebasin as fr
from benchmarks.align import methods
from benchmarks.align.checkpoints import Pair
from benchmarks.merging.lines import State

WATCHED = 1024
"""Training images whose activations are matched."""

Align = Callable[[Pair, Tensor, int], State]
"""From a pair, images and a seed to the weights of B, permuted; where ``rebasin`` fails to keep
B's function, to other weights."""


def as_trained(pair: Pair, images: Tensor, seed: int) -> State:
    return pair.b.state_dict()


def by_weights(pair: Pair, images: Tensor, seed: int, *, rounds: int = 0) -> State:
    """Weight matching, with a budget of rounds."""
    return _by_weights(pair, seed, None, rounds)


def by_activations(pair: Pair, images: Tensor, seed: int) -> State:
    """Activation matching."""
    return activation_permutation(pair, images).apply(pair.b.state_dict())


def by_both(pair: Pair, images: Tensor, seed: int, *, rounds: int = 0) -> State:
    """Weight matching that starts where activations are matched."""
    start = activation_permutation(pair, images)
    return _by_weights(pair, seed, start, rounds)


def activation_permutation(pair: Pair, images: Tensor) -> fr.Transform:
    found = fr.activation_matching(pair.b, to=pair.a, args=(images[:WATCHED],), progress=False)
    return found.permutation


def _by_weights(pair: Pair, seed: int, start: fr.Transform | None, rounds: int) -> State:
    symmetry = start.symmetry if start else fr.analyze(pair.b, args=(pair.inputs,))
    budget = fr.Budget(rounds=rounds) if rounds else None
    found = fr.weight_matching(
        symmetry,
        pair.b.state_dict(),
        to=pair.a.state_dict(),
        solver=partial(fr.solvers.coordinate_descent, budget=budget),
        start=start,
        seed=seed,
        progress=False,
    )
    return found.permutation.apply(pair.b.state_dict())


def plain(pair: Pair, images: Tensor, seed: int) -> State:
    """Algorithm 1 of Git Re-Basin."""
    return methods.plain(pair, seed).state


def rebasin(pair: Pair, images: Tensor, seed: int) -> State:
    """The package rebasin."""
    return methods.rebasin(pair, seed).state


OTHERS: dict[str, Align] = {
    "as trained": as_trained,
    "rebasin 0.0.47": rebasin,
    "plain git-re-basin": plain,
}
OURS: dict[str, Align] = {
    "ours, weights": by_weights,
    "ours, activations": by_activations,
    "ours, weights from activations": by_both,
}
