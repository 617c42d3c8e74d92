"""Does the group that was found for a random network leave its function unchanged?

Every network is analysed as its constructors leave it, twice: raw, and with the analysis' test of
itself. Then all its weights and running statistics are drawn afresh, in float64, and random
members of both groups are applied to it: its outputs may not change.
"""

from __future__ import annotations

import copy
import random
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.fuzz.networks import Recipe, build, example_inputs
from benchmarks.measuring.random_weights import difference, evaluate, randomise
from fxrebasin.errors import RefutedWarning, UntouchedWarning
from fxrebasin.models.reachable import reachable_tensors

TOLERANCE = 1e-10
"""Relative, of what a permuted model returns; exact up to rounding, which is some 1e-15."""
VISIBLE = 1e-7
"""Relative, what leaving one tensor in its place must change at least."""
SIZES = ((2, 0), (3, 2), (3, 0))
"""Batch, and how many more tokens or pixels than the recipe says; first those of the example."""
SAMPLES = 4
CONTROLS = 3
SHAKE = 1e-15
"""Relative size of the disturbance that shows how much a network amplifies rounding errors."""
CALM = 1e-12
"""Relative, what the disturbance may change. Weights for which it changes more prove nothing."""


@dataclass(frozen=True)
class Verdict:
    """What was found out about one network."""

    raw_error: float
    """The largest change of an output by the group that was not tested; relative."""
    error: float
    """The same for the group that `analyze` returns."""
    log_order: float
    pinned: bool
    """Whether the analysis' test of itself made the group smaller."""
    control: float
    """The largest change where a tensor that should move stays; nan if none moves."""
    seconds: float
    unknown_ops: dict[str, int]
    front_end: str

    @property
    def judged(self) -> bool:
        """Whether there were weights for which rounding errors stay small."""
        return self.error == self.error

    @property
    def sound(self) -> bool:
        return self.error <= TOLERANCE

    @property
    def raw_sound(self) -> bool:
        return self.raw_error <= TOLERANCE


def shaken(model: nn.Module, seed: int) -> nn.Module:
    """A copy whose weights differ by a few times the precision of float64."""
    generator = torch.Generator().manual_seed(seed)
    other = copy.deepcopy(model)
    for parameter in other.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.mul_(1 + SHAKE * noise)
    return other


@dataclass(frozen=True, eq=False)
class Sized:
    """Inputs of some size, and what a network returns for them."""

    inputs: tuple[Tensor, ...]
    expected: list[Tensor]

    def change(self, model: nn.Module) -> float:
        return difference(results(model, self.inputs), self.expected)


def results(model: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """All tensors that a network returns, or leaves where its user finds them."""
    returned = evaluate(model, inputs)
    kept = reachable_tensors(getattr(model.get_submodule("head"), "seen", None))
    return [*returned, *(tensor.clone() for tensor in kept)]


@dataclass(frozen=True, eq=False)
class Trial:
    """A network with random weights, and what it returns for inputs of several sizes."""

    model: nn.Module
    sizes: list[Sized]
    """First those of the example; then all others that the network takes."""

    def change(self, model: nn.Module, sizes: int | None = None) -> float:
        return max(sized.change(model) for sized in self.sizes[:sizes])

    def error(self, symmetry: fr.Symmetry) -> float:
        """The largest change that random members of a group make.

        What no parameter is known for is not asked for: where the example reaches a part of the
        parameters only, as the group says, its size alone counts.
        """
        if not symmetry.blocks:
            return 0.0
        sizes = 1 if symmetry.untouched else None
        return max(self.change(p.apply_to(self.model), sizes) for p in moving(symmetry))

    @torch.no_grad()
    def control(self, symmetry: fr.Symmetry) -> float:
        """The largest change if one tensor stays where it was while all others move."""
        if not symmetry.blocks:
            return float("nan")
        moved = moving(symmetry)[0].apply_to(self.model)
        before, places = self.model.state_dict(), moved.state_dict()
        names = sorted(name for name, t in before.items() if not torch.equal(t, places[name]))
        changes = [0.0]
        for name in random.Random(0).sample(names, min(CONTROLS, len(names))):
            kept = places[name].clone()
            places[name].copy_(before[name])
            changes.append(self.change(moved))
            places[name].copy_(kept)
        return max(changes)


def moving(symmetry: fr.Symmetry, count: int = SAMPLES) -> list[fr.Permutation]:
    """Random members of a group that move something."""
    found: list[fr.Permutation] = []
    generator = torch.Generator().manual_seed(0)
    while len(found) < count:
        drawn = fr.Permutation.random(symmetry, generator)
        if drawn.moved_units:
            found.append(drawn)
    return found


@torch.no_grad()
def trial(recipe: Recipe, attempts: int = 5) -> Trial | None:
    """A network with weights for which rounding errors stay small; None if there are none.

    Whether they do is decided before any permutation is tried.
    """
    for seed in range(attempts):
        model = randomise(build(recipe), seed)
        found = Trial(model, list(at_sizes(recipe, model, seed + 1)))
        if found.change(shaken(model, seed)) <= CALM:
            return found
    return None


def at_sizes(recipe: Recipe, model: nn.Module, seed: int) -> Iterator[Sized]:
    """The example's size, and whichever of the others the network takes."""
    for batch, longer in SIZES:
        inputs = example_inputs(recipe, seed, batch=batch, longer=longer)
        try:
            expected = results(model, inputs)
        except (IndexError, RuntimeError, ValueError):
            if (batch, longer) == SIZES[0]:
                raise
            continue  # made for one size
        yield Sized(inputs, expected)


def analyse(recipe: Recipe, *, check: bool = True) -> tuple[fr.Symmetry, bool]:
    """The group of a network, and whether the analysis' test of itself refuted a part of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RefutedWarning)
        warnings.simplefilter("ignore", UntouchedWarning)
        symmetry = fr.analyze(build(recipe), args=example_inputs(recipe), check=check)
    return symmetry, any(issubclass(w.category, RefutedWarning) for w in caught)


def judge(recipe: Recipe) -> Verdict:
    """Analyse a network, and test what comes out."""
    start = time.perf_counter()
    symmetry, pinned = analyse(recipe)
    seconds = time.perf_counter() - start
    raw = analyse(recipe, check=False)[0] if pinned else symmetry
    tried = trial(recipe)
    results: dict[str, Any] = {name: float("nan") for name in ("raw_error", "error", "control")}
    if tried is not None:
        error = tried.error(symmetry)
        results = {
            "raw_error": tried.error(raw) if pinned else error,
            "error": error,
            "control": tried.control(symmetry),
        }
    return Verdict(
        **results,
        log_order=symmetry.log_order,
        pinned=pinned,
        seconds=seconds,
        unknown_ops=dict(symmetry.unknown_ops),
        front_end=symmetry.front_end,
    )
