"""How far a model amplifies rounding.

A permutation changes the order of sums, so that outputs differ by what rounding does. Chaotic
models, such as recurrent nets whose weights are large, make much of that little. How much is
measured: every weight is rounded differently, and the outputs are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..models.copying import deep_copy, forget_caches
from ..models.precision import largest_error
from ..models.running import run

BEYOND_NOISE = 1e3
"""A permutation changes the order of sums. In models that amplify rounding it is refuted only if it
changes the outputs by more than so many times what rounding every weight differently does."""


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
    generator = torch.Generator().manual_seed(0)
    rounded = deep_copy(model)
    with torch.no_grad():
        for p in rounded.parameters():
            if p.is_floating_point():
                p.mul_(1 + torch.finfo(p.dtype).eps * draw_like(p, generator))
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
