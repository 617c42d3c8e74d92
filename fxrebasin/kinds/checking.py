"""Is what was found true? Random elements of the whole group, held against the model itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import nn

from ..canonical.canonicalise import absorb
from ..errors import VerificationError
from ..models.copying import copy_sharing_parameters, deep_copy
from ..models.precision import (
    TOLERANCE,
    coarsest_dtype,
    in_double,
    is_comparable,
    largest_error,
    to_double,
)
from ..models.randomness import keeping_random_state
from ..models.running import run
from ..models.validation import stored_tensors
from ..symmetry.group import Symmetry
from ..symmetry.transform import Transform
from ..verification.random_weights import disturb
from ..verification.rounding import BEYOND_NOISE, rounding_noise

T = TypeVar("T")


def error_under_elements(
    model: nn.Module,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    symmetry: Symmetry,
    seed: int = 0,
) -> float:
    """By how much random elements of the whole group change what a model computes.

    The weights are disturbed first, norms are absorbed where a kind says so, and then every block
    is acted upon at once: by rotations, scales, signs, whatever its kind allows. All is done to a
    copy, in float64.

    >>> import fxrebasin as fr
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> x = torch.zeros(1, 4)
    >>> error_under_elements(net, (x,), symmetry=fr.analyze(net, (x,))) < 1e-12
    True

    Args:
        model: the one that the symmetry was found for; not changed.
        args, kwargs: example inputs.
        symmetry: as :func:`fxrebasin.analyze` returns it.
        seed: of the weights and of the elements.

    Returns:
        The largest difference of an output, relative to the largest entry of it. Models that
        compute norms in float32 whatever their weights are differ by as much as that rounds.
    """
    with keeping_random_state(model):
        trial = _Trial(model, args, kwargs, symmetry, seed)
        return trial.error(trial.drawn)


def verify_kinds(
    model: nn.Module,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    symmetry: Symmetry,
    seed: int = 0,
) -> float:
    """Hold the kinds of all blocks against the model, before anything relies on them.

    Arguments, and what is returned, are those of :func:`error_under_elements`.

    Raises:
        VerificationError: elements change what the model computes by more than rounding explains;
            names the blocks whose elements do so by themselves.
        ArithmeticError: with disturbed weights, what it computes are not numbers.
    """
    with keeping_random_state(model):
        trial = _Trial(model, args, kwargs, symmetry, seed)
        error = trial.error(trial.drawn)
        if trial.allows(error):
            return error
        found = [
            f"{name!r}, as {symmetry.kinds.of(name).describe(block.size)}"
            for name, block in symmetry.blocks.items()
            if not trial.allows(trial.error(_only(trial.drawn, name)))
        ]
    named = "; ".join(found) or "none by itself"
    raise VerificationError(
        f"random elements of the group change what {type(model).__name__} computes by {error:.1e} "
        f"(relative, in float64). Blocks whose elements do: {named}. Please report this; "
        "permutations, which were tested by themselves, can be used"
    )


def error_under_rounding(
    model: nn.Module,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    symmetry: Symmetry,
    seed: int = 0,
) -> float:
    """By how much the same weights, changed by a few times the precision of float64, change it.

    Where that is much, nothing is learned from :func:`error_under_elements`. Arguments are the
    same.
    """
    with keeping_random_state(model):
        inputs, copied, state = _prepare(model, args, kwargs, symmetry, seed)
        before = run(copy_sharing_parameters(copied), *inputs)
        generator = torch.Generator().manual_seed(seed)
        for name, tensor in state.items():
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
                state[name] = tensor * (1 + 1e-15 * noise)
        _fill(copied, state)
        return largest_error(before, run(copied, *inputs))


class _Trial:
    """A copy of a model in float64 with disturbed weights, norms absorbed, and what it returns."""

    def __init__(
        self,
        model: nn.Module,
        args: Sequence[Any],
        kwargs: Mapping[str, Any] | None,
        symmetry: Symmetry,
        seed: int,
    ) -> None:
        self._inputs, self._model, state = _prepare(model, args, kwargs, symmetry, seed)
        with coarsest_dtype(torch.float64) as coarsest:
            self._before = run(copy_sharing_parameters(self._model), *self._inputs)
        if any(bool(torch.isnan(t).any()) or not is_comparable(t) for t in self._before):
            raise ArithmeticError("with other weights the outputs are not numbers")
        self._tolerance = TOLERANCE[coarsest.dtype]
        self._state = absorb(symmetry, state)
        generator = torch.Generator().manual_seed(seed)
        self.drawn = Transform.random(symmetry, generator, scales=True)

    def error(self, transform: Transform) -> float:
        _fill(self._model, transform.apply(self._state))
        return largest_error(self._before, run(self._model, *self._inputs))

    def allows(self, error: float) -> bool:
        return error <= self._tolerance or error <= BEYOND_NOISE * self._noise

    @cached_property
    def _noise(self) -> float:
        _fill(self._model, self._state)
        return rounding_noise(self._model, *self._inputs, self._before)


def _only(transform: Transform, name: str) -> Transform:
    """What it does to one block; all others stay."""
    return Transform(
        transform.symmetry,
        {**Transform.identity(transform.symmetry).indices, name: transform.indices[name]},
        _of_one(transform.signs, name),
        _of_one(transform.log_scales, name),
        _of_one(transform.matrices, name),
    )


def _of_one(part: Mapping[str, T], name: str) -> dict[str, T]:
    return {name: part[name]} if name in part else {}


def _prepare(
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    symmetry: Symmetry,
    seed: int,
) -> tuple[tuple[Any, Any], nn.Module, dict[str, torch.Tensor]]:
    """Inputs and a copy of the model in float64, with other weights, and these."""
    args, kwargs = in_double((tuple(args), dict(kwargs or {})))
    copied = to_double(deep_copy(model))
    disturb(copied, seed, [p.name for p in symmetry.parameters if p.groups])
    state = {name: t.detach().clone() for name, t in stored_tensors(copied).items()}
    return (args, kwargs), copied, state


def _fill(model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in stored_tensors(model).items():
            tensor.copy_(state[name])
