"""Models with random weights on which permutations are tried.

A trial is a copy of the model whose weights were disturbed, with inputs and what it returns. A
permutation is refuted by it if the copy, permuted, returns something else: more than the tolerance
of its dtype, and far more than rounding every weight differently changes.

The quickest trial comes first: a large model is tried in its own dtype, and in float64 only where
that looks wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from ..models.precision import TOLERANCE, coarsest_dtype, dtype_of, in_double, largest_error
from ..models.reachable import copy_with
from ..symmetry.transform import Transform
from .random_weights import RandomWeights
from .rounding import BEYOND_NOISE, draw_like, rounding_noise

Inputs = tuple[tuple[Any, ...], dict[str, Any]]

DOUBLE = 5_000_000
"""Models with at most as many parameters are tested in float64 at once; larger ones in their own
dtype, and in float64 only where that looks wrong: convolutions are several times slower in it."""


@dataclass(frozen=True)
class Trial:
    """A model with random weights, and what it returns."""

    weights: RandomWeights
    args: Any
    kwargs: Any
    outputs: list[torch.Tensor]
    tolerance: float

    def error(self, permutation: Transform) -> float:
        """The largest relative difference that a permutation makes."""
        found = self.weights.run(permutation, self.args, self.kwargs)
        expected = self.outputs
        if permutation.symmetry.outputs:
            moved = permutation.symmetry.outputs
            freed = (permutation.move(p, t) for p, t in zip(moved, expected, strict=False))
            expected = [*freed, *expected[len(moved) :]]
        return largest_error(expected, found)

    def refutes(self, permutation: Transform) -> bool:
        error = self.error(permutation)
        return not error <= self.tolerance and not error <= BEYOND_NOISE * self.noise

    @cached_property
    def noise(self) -> float:
        """How much the outputs change when every weight is rounded differently."""
        return rounding_noise(self.weights.model, self.args, self.kwargs, self.outputs)


class Trials:
    """Ways to test a model: the quickest first, the one that decides last; none if it never runs.

    Each is prepared when it is first asked for: the last is seldom needed.
    """

    def __init__(self, prepared: Iterator[Trial]) -> None:
        self._prepared, self._ready = prepared, list[Trial]()

    def __iter__(self) -> Iterator[Trial]:
        yield from self._ready
        for trial in self._prepared:
            self._ready.append(trial)
            yield trial

    def __bool__(self) -> bool:
        return any(True for _ in self)

    def on(self, args: Sequence[Any], kwargs: Mapping[str, Any], *, seed: int = 0) -> Trials:
        """Trials of the same weights on other inputs; none where the quickest does not run."""
        return Trials(_on_others(self, (tuple(args), dict(kwargs)), seed))


def prepare_trials(
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    random_weights: bool,
    seed: int = 0,
    moving: Collection[str] = (),
) -> Trials:
    """The trials of a model; none where it does not run with other weights.

    Where ``random_weights`` is False the model keeps its own: for models whose control flow
    depends on values, other weights may mean another path. ``moving`` are the names of what the
    group moves: buffers among them are disturbed as well.
    """
    return Trials(_prepare(model, (tuple(args), dict(kwargs)), random_weights, seed, moving))


def _prepare(
    model: nn.Module, inputs: Inputs, random_weights: bool, seed: int, moving: Collection[str]
) -> Iterator[Trial]:
    is_small = sum(p.numel() for p in model.parameters()) <= DOUBLE
    for double in (is_small, not is_small):
        try:
            weights = RandomWeights(
                model, double=double, disturbed=random_weights, seed=seed, moving=moving
            )
        except Exception:  # what copies do is the model's own
            continue
        trial = _first_that_runs(weights, inputs, seed)
        if trial is not None:
            yield trial
            if is_small:
                return


def _on_others(trials: Trials, inputs: Inputs, seed: int) -> Iterator[Trial]:
    for trial in trials:
        found = _first_that_runs(trial.weights, inputs, seed)
        if found is None:
            return
        yield found


def _first_that_runs(weights: RandomWeights, inputs: Inputs, seed: int) -> Trial | None:
    """With random inputs in the place of uniform ones, or, where it does not run on such, these."""
    given = in_double(inputs) if weights.double else inputs
    generator = torch.Generator().manual_seed(seed)
    drawn: list[torch.Tensor] = []

    def without_uniform(tensor: torch.Tensor) -> torch.Tensor:
        if not _is_uniform(tensor):
            return tensor
        drawn.append(draw_like(tensor, generator))
        return drawn[-1]

    random = copy_with(given, without_uniform)
    for tried in (random, given) if drawn else (given,):
        try:
            return _trial(weights, tried)
        except Exception:  # whatever the model says to such inputs
            continue
    return None


def _trial(weights: RandomWeights, inputs: Inputs) -> Trial:
    with coarsest_dtype(dtype_of(weights.model)) as coarsest:
        outputs = weights.run(None, *inputs)
    numbers = [t for t in outputs if t.is_floating_point() and t.numel()]
    if not all(bool(torch.isfinite(t).any()) and not torch.isnan(t).any() for t in numbers):
        raise ArithmeticError("the outputs are not numbers")
    return Trial(weights, inputs[0], inputs[1], outputs, TOLERANCE[coarsest.dtype])


def _is_uniform(tensor: torch.Tensor) -> bool:
    """Inputs that are all zeros or all ones, as placeholders often are, hide what is wrong."""
    if not tensor.is_floating_point() or tensor.layout != torch.strided or tensor.numel() < 2:
        return False
    return bool((tensor == tensor.flatten()[0]).all())
