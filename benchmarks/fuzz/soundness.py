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
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.fuzz.networks import Recipe, build, example_inputs
from benchmarks.measuring.random_weights import difference, evaluate, randomise
from fxrebasin.errors import RefutedWarning

TOLERANCE = 1e-10
"""Relative, of what a permuted model returns; exact up to rounding, which is some 1e-15."""
VISIBLE = 1e-7
"""Relative, what leaving one tensor in its place must change at least."""
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
class Trial:
    """A network with random weights, and what it returns."""

    model: nn.Module
    inputs: tuple[Tensor, ...]
    expected: list[Tensor]

    def change(self, model: nn.Module) -> float:
        return difference(evaluate(model, self.inputs), self.expected)

    def error(self, symmetry: fr.Symmetry) -> float:
        """The largest change that random members of a group make."""
        if not symmetry.blocks:
            return 0.0
        return max(self.change(p.apply_to(self.model)) for p in moving(symmetry))

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
        inputs = example_inputs(recipe, seed=seed + 1)
        found = Trial(model, inputs, evaluate(model, inputs))
        if found.change(shaken(model, seed)) <= CALM:
            return found
    return None


def analyse(recipe: Recipe, *, check: bool = True) -> tuple[fr.Symmetry, bool]:
    """The group of a network, and whether the analysis' test of itself refuted a part of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RefutedWarning)
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
