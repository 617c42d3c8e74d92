"""Put a symmetry group to the test, and pin what fails.

What the analysis concludes is checked where it counts: generators of the claimed group are applied
to a copy of the model with random weights, and its outputs are compared. A permutation that keeps
them equal there keeps them equal everywhere but on a set of weights of measure zero (wherever the
function is analytic in the weights: the Schwartz-Zippel argument).

Every block contributes two generators under each of its parents: a cycle through all its units and
the exchange of two neighbours on that cycle. They generate its whole symmetric group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_map_only

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
from ..models.running import run
from ..models.validation import stored_tensors
from ..symmetry.action import Indices
from ..symmetry.group import Symmetry
from ..symmetry.parts import Block
from ..symmetry.permutation import Permutation

DOUBLE = 5_000_000
"""Models with at most as many parameters are tested in float64 at once; larger ones in their own
dtype, and in float64 only where that looks wrong: convolutions are several times slower in it."""


BEYOND_NOISE = 1e3
"""A permutation changes the order of sums. In models that amplify rounding it is refuted only if it
changes the outputs by more than so many times what rounding every weight differently does."""


ROUNDS = 8
"""How often blocks are pinned before all are."""

Pin = Callable[[Sequence[str]], Symmetry]
"""Pins the units of the blocks of these names, and gives the group that is left."""


@dataclass(frozen=True, eq=False)
class Falsification:
    """What a test has left of a group."""

    symmetry: Symmetry
    refuted: tuple[str, ...] = ()
    """The names of blocks whose permutations changed what the model computes."""
    was_tested: bool = True
    """False where the model does not run with other weights."""


def falsify(
    symmetry: Symmetry,
    pin: Pin,
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    random_weights: bool = True,
    seed: int = 0,
) -> Falsification:
    """Test a group, and pin blocks until nothing that is left of it is refuted.

    Args:
        symmetry: the group that an analysis claims.
        pin: pins the units of the blocks of these names, and gives the group that is left.
        model, args, kwargs: what the group was found for; neither is changed.
        random_weights: test with other weights than the model's own.
        seed: of weights and generators.
    """
    if not symmetry.blocks:
        return Falsification(symmetry)
    ways = trials(model, args, kwargs, random_weights=random_weights, seed=seed)
    if not ways:
        return Falsification(symmetry, was_tested=False)
    refuted: list[str] = []
    for attempt in range(ROUNDS + 1):
        blocks = offenders(symmetry, ways, seed=seed + attempt)
        if not blocks:
            break
        if attempt == ROUNDS:
            blocks = list(symmetry)
        names = [block.name for block in blocks]
        refuted += names
        symmetry = pin(names)
    return Falsification(symmetry, tuple(refuted))


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
            expected = [permutation.permute(p, t) for p, t in zip(moved, expected, strict=True)]
        return largest_error(expected, found)

    def refutes(self, permutation: Permutation) -> bool:
        error = self.error(permutation)
        return not error <= self.tolerance and not error <= BEYOND_NOISE * self.noise

    @cached_property
    def noise(self) -> float:
        """How much the outputs change when every weight is rounded differently."""
        generator = torch.Generator().manual_seed(0)
        rounded = deep_copy(self.model)
        with torch.no_grad():
            for p in rounded.parameters():
                if p.is_floating_point():
                    p.mul_(1 + torch.finfo(p.dtype).eps * _noise(p, generator))
        forget_caches(rounded)
        found = run(rounded, self.args, self.kwargs)
        return largest_error(self.outputs, found)


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


Tried = Trials | Sequence[Trial]


def trials(
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    random_weights: bool,
    seed: int = 0,
) -> Trials:
    """The trials of a model.

    Where ``random_weights`` is False the model keeps its own: for models whose control flow
    depends on values, other weights may mean another path.
    """
    return Trials(_prepared(model, args, kwargs, random_weights, seed))


def _prepared(
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    random_weights: bool,
    seed: int,
) -> Iterator[Trial]:
    is_small = sum(p.numel() for p in model.parameters()) <= DOUBLE
    for double in (is_small, not is_small):
        for random_inputs in (True, False):
            try:
                trial = _trial(model, args, kwargs, double, random_weights, random_inputs, seed)
            except (
                ArithmeticError,
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


def _trial(
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    double: bool,
    random_weights: bool,
    random_inputs: bool,
    seed: int,
) -> Trial:
    generator = torch.Generator().manual_seed(seed)
    tried = deep_copy(model)
    inputs: Any = (tuple(args), dict(kwargs))
    if double:
        tried, inputs = to_double(tried), in_double(inputs)
    if random_weights:
        _disturb(tried, generator)
        forget_caches(tried)
    if random_inputs:
        inputs = tree_map_only(torch.Tensor, lambda t: _without_uniform(t, generator), inputs)
    with coarsest_dtype(dtype_of(tried)) as coarsest:
        outputs = run(deep_copy(tried), *inputs)
    if not all(bool(torch.isfinite(t).all()) for t in outputs if t.is_floating_point()):
        raise ArithmeticError("the outputs are not finite")
    return Trial(tried, inputs[0], inputs[1], outputs, TOLERANCE[coarsest.dtype])


def _disturb(model: nn.Module, generator: torch.Generator) -> None:
    """Disturb every weight by about a third of its size; the scale of the model stays.

    Freshly initialised models have weights that are all equal, which would hide that a
    permutation moves them wrongly.
    """
    done = set()
    with torch.no_grad():
        for name, tensor in stored_tensors(model).items():
            is_mean, is_variance = (name.endswith(s) for s in ("running_mean", "running_var"))
            is_weight = isinstance(tensor, nn.Parameter) or is_mean or is_variance
            if id(tensor) in done or not is_weight or not tensor.is_floating_point():
                continue
            done.add(id(tensor))
            if is_variance:
                tensor.mul_(_noise(tensor, generator).abs().mul_(0.5).add_(0.5))
                continue
            spread = tensor.std() if tensor.numel() > 1 else torch.zeros_like(tensor).mean()
            scale = float(spread) or max(float(tensor.abs().max()), 0.5)
            tensor.add_(_noise(tensor, generator), alpha=0.3 * scale)


def _noise(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    drawn = torch.randn(tensor.shape, generator=generator, dtype=torch.float32)
    return drawn.to(tensor)


def _without_uniform(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Inputs that are all zeros or all ones, as placeholders often are, hide what is wrong."""
    if not tensor.is_floating_point() or tensor.numel() < 2:
        return tensor
    is_uniform = bool((tensor == tensor.flatten()[0]).all())
    return _noise(tensor, generator) if is_uniform else tensor


def offenders(symmetry: Symmetry, trials: Tried, *, seed: int = 0) -> list[Block]:
    """The blocks whose permutations change what the model computes; empty if none are found, or
    nothing can be tried."""
    if not trials or not symmetry.blocks:
        return []
    generators = _generators(symmetry, np.random.default_rng(seed))
    return _search(symmetry, trials, generators, list(symmetry))


def _generators(
    symmetry: Symmetry, rng: np.random.Generator
) -> tuple[dict[str, Indices], dict[str, Indices]]:
    """Per block, under each of its parents, a cycle through all units and an exchange of two."""
    cycles, exchanges = {}, {}
    for block in symmetry:
        still = np.tile(np.arange(block.size, dtype=np.int64), (block.count, 1))
        order = rng.permuted(still, axis=1)
        cycles[block.name], exchanges[block.name] = still.copy(), still.copy()
        np.put_along_axis(cycles[block.name], order, np.roll(order, -1, axis=1), axis=1)
        np.put_along_axis(exchanges[block.name], order[:, :2], order[:, 1::-1], axis=1)
    return cycles, exchanges


def _search(
    symmetry: Symmetry,
    trials: Tried,
    generators: tuple[dict[str, Indices], dict[str, Indices]],
    blocks: list[Block],
) -> list[Block]:
    """Halve the blocks until single ones are found. Permutations that change nothing one by one
    change nothing together, so a failure that neither half shows is laid at all of them."""
    if not any(_refuted(symmetry, trials, moves, blocks) for moves in generators):
        return []
    if len(blocks) == 1:
        return blocks
    half = len(blocks) // 2
    found = [
        *_search(symmetry, trials, generators, blocks[:half]),
        *_search(symmetry, trials, generators, blocks[half:]),
    ]
    return found or blocks


def _refuted(
    symmetry: Symmetry,
    trials: Tried,
    moves: Mapping[str, Indices],
    blocks: list[Block],
) -> bool:
    indices = {**Permutation.identity(symmetry).indices, **{b.name: moves[b.name] for b in blocks}}
    permutation = Permutation(symmetry, indices)
    return all(trial.refutes(permutation) for trial in trials)
