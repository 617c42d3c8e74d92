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

from ..errors import FxrebasinError
from ..models.copying import deep_copy, forget_caches
from ..models.precision import (
    TOLERANCE,
    coarsest_dtype,
    dtype_of,
    in_double,
    largest_error,
    to_double,
)
from ..models.reachable import copy_with
from ..models.running import run
from ..models.validation import stored_tensors
from ..symmetry.permutation import Permutation
from .rounding import BEYOND_NOISE, draw_like, rounding_noise

DOUBLE = 5_000_000
"""Models with at most as many parameters are tested in float64 at once; larger ones in their own
dtype, and in float64 only where that looks wrong: convolutions are several times slower in it."""


@dataclass(frozen=True)
class Trial:
    """A model with random weights, and what it returns."""

    model: nn.Module
    args: Any
    kwargs: Any
    outputs: list[torch.Tensor]
    tolerance: float

    def error(self, permutation: Permutation) -> float:
        """The largest relative difference that a permutation makes."""
        found = run(permutation.apply_to(self.model), self.args, self.kwargs)
        expected = self.outputs
        if permutation.symmetry.outputs:
            moved = permutation.symmetry.outputs
            freed = (permutation.permute(p, t) for p, t in zip(moved, expected, strict=False))
            expected = [*freed, *expected[len(moved) :]]
        return largest_error(expected, found)

    def refutes(self, permutation: Permutation) -> bool:
        error = self.error(permutation)
        return not error <= self.tolerance and not error <= BEYOND_NOISE * self.noise

    @cached_property
    def noise(self) -> float:
        """How much the outputs change when every weight is rounded differently."""
        return rounding_noise(self.model, self.args, self.kwargs, self.outputs)


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
    return Trials(_prepare(model, args, kwargs, random_weights, seed, moving))


def _prepare(
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    random_weights: bool,
    seed: int,
    moving: Collection[str],
) -> Iterator[Trial]:
    is_small = sum(p.numel() for p in model.parameters()) <= DOUBLE
    for double in (is_small, not is_small):
        for random_inputs in (True, False):
            try:
                trial = _prepare_one(
                    model, args, kwargs, double, random_weights, random_inputs, seed, moving
                )
            except (
                ArithmeticError,
                AssertionError,
                FxrebasinError,
                LookupError,
                RuntimeError,
                TypeError,
                ValueError,
            ):
                continue
            yield trial
            if is_small:
                return
            break


def _prepare_one(
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    double: bool,
    random_weights: bool,
    random_inputs: bool,
    seed: int,
    moving: Collection[str],
) -> Trial:
    generator = torch.Generator().manual_seed(seed)
    tried = deep_copy(model)
    inputs: Any = (tuple(args), dict(kwargs))
    if double:
        tried, inputs = to_double(tried), in_double(inputs)
    if random_weights:
        _disturb(tried, generator, moving)
        forget_caches(tried)
    if random_inputs:
        inputs = copy_with(inputs, lambda t: _without_uniform(t, generator))
    with coarsest_dtype(dtype_of(tried)) as coarsest:
        outputs = run(deep_copy(tried), *inputs)
    numbers = [t for t in outputs if t.is_floating_point() and t.numel()]
    if not all(bool(torch.isfinite(t).any()) and not torch.isnan(t).any() for t in numbers):
        raise ArithmeticError("the outputs are not numbers")
    return Trial(tried, inputs[0], inputs[1], outputs, TOLERANCE[coarsest.dtype])


def _disturb(model: nn.Module, generator: torch.Generator, moving: Collection[str]) -> None:
    """Disturb every weight by about a third of its size; the scale of the model stays.

    Freshly initialised models have weights that are all equal, which would hide that a
    permutation moves them wrongly. Buffers that move, such as masks and codebooks, may be so too;
    those that are positive throughout, as variances and scales have to be, stay so.
    """
    done = set()
    with torch.no_grad():
        for name, tensor in stored_tensors(model).items():
            is_weight = isinstance(tensor, nn.Parameter)
            is_statistic = name.endswith(("running_mean", "running_var"))
            if id(tensor) in done or not (is_weight or is_statistic or name in moving):
                continue
            done.add(id(tensor))
            if tensor.dtype == torch.bool and not is_weight:
                tensor.copy_(torch.rand(tensor.shape, generator=generator) < 0.5)
                continue
            if not tensor.is_floating_point():
                continue
            is_other = not (is_weight or is_statistic)
            if name.endswith("running_var") or (is_other and bool((tensor > 0).all())):
                tensor.mul_(draw_like(tensor, generator).abs().mul_(0.5).add_(0.5))
                continue
            spread = tensor.std() if tensor.numel() > 1 else torch.zeros_like(tensor).mean()
            scale = float(spread) or max(float(tensor.abs().max()), 0.5)
            tensor.add_(draw_like(tensor, generator), alpha=0.3 * scale)


def _without_uniform(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Inputs that are all zeros or all ones, as placeholders often are, hide what is wrong."""
    if not tensor.is_floating_point() or tensor.numel() < 2:
        return tensor
    is_uniform = bool((tensor == tensor.flatten()[0]).all())
    return draw_like(tensor, generator) if is_uniform else tensor
