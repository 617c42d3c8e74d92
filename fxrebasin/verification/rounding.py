"""How far a model amplifies rounding.

A permutation changes the order of sums, so that outputs differ by what rounding does. Chaotic
models, such as recurrent nets whose weights are large, make much of that little. How much is
measured: every weight is rounded differently, and the outputs are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..models.copying import deep_copy, forget_caches
from ..models.precision import largest_error
from ..models.running import run

BEYOND_NOISE = 1e3
"""A permutation changes the order of sums. In models that amplify rounding it is refuted only if it
changes the outputs by more than so many times what rounding every weight differently does."""

ROUNDED_ONCE = 0.25
"""The standard deviation of what rounding to the nearest adds, over the machine epsilon: that of a
uniform number is 0.29 of its width, which is between half of epsilon and all of it."""

BEYOND_STORING = 4
"""A model whose weights were mixed, and rounded when they were stored, is refuted only if its
outputs differ by more than so many times what one such rounding does (measured: 0.3 to 1.3 times
that in small transformers). Where they were stored twice, as after absorbing norms, that is the
root of two times more."""

DRAWS = 8
"""Of roundings when weights are stored: one alone may hardly change outputs that are few."""


def rounding_noise(
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    outputs: Sequence[torch.Tensor],
    *,
    whole_numbers: bool = True,
) -> float:
    """How much the outputs of a model change when every weight is rounded differently.

    Outputs of whole numbers, which are equal or not, can be left out.
    """

    def round_otherwise(p: torch.Tensor, _: str, generator: torch.Generator) -> None:
        p.mul_(1 + torch.finfo(p.dtype).eps * draw_like(p, generator))

    return _noise(model, args, kwargs, outputs, round_otherwise, whole_numbers=whole_numbers)


def storing_noise(
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    outputs: Sequence[torch.Tensor],
    *,
    stored: Mapping[str, float],
) -> float:
    """How much the outputs change when every weight is off by what storing it once rounds.

    Matrices mix entries of different sizes before they are stored. So each is off by what suits the
    root mean square of its tensor, not by what suits itself. Of several draws, that which changes
    most is what counts.

    Args:
        model: in float64, or in the dtype of its weights.
        args, kwargs, outputs: what it is run on, and what it returns.
        stored: per parameter, the machine epsilon of the dtype in which it is stored.
    """

    def round_once(p: torch.Tensor, name: str, generator: torch.Generator) -> None:
        spread = ROUNDED_ONCE * stored[name] * p.square().mean().sqrt()
        p.add_(spread * draw_like(p, generator))

    return max(
        _noise(model, args, kwargs, outputs, round_once, whole_numbers=False, seed=seed)
        for seed in range(DRAWS)
    )


def _noise(
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    outputs: Sequence[torch.Tensor],
    change: Callable[[torch.Tensor, str, torch.Generator], None],
    *,
    whole_numbers: bool,
    seed: int = 0,
) -> float:
    generator = torch.Generator().manual_seed(seed)
    rounded = deep_copy(model)
    with torch.no_grad():
        for name, p in rounded.named_parameters():
            if p.is_floating_point():
                change(p, name, generator)
    forget_caches(rounded)
    found = run(rounded, args, kwargs)
    if len(found) != len(outputs):
        return float("inf")
    pairs = [(e, f) for e, f in zip(outputs, found, strict=True) if whole_numbers or _is_real(e)]
    return largest_error([e for e, _ in pairs], [f for _, f in pairs])


def _is_real(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def draw_like(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Normal numbers of the shape, dtype and device of a tensor."""
    drawn = torch.randn(tensor.shape, generator=generator, dtype=torch.float32)
    return drawn.to(tensor)
