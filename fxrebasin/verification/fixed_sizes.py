"""Does a graph that was made for the shapes of an example hold for others?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..models.copying import deep_copy
from ..models.precision import largest_error
from ..models.running import run
from .other_sizes import vary

BAKED_IN = 1e-3
"""Relative: what another size, baked into a graph, changes is far more than rounding."""


def differs_at_other_sizes(
    model: nn.Module, graph: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> bool:
    """Is there an input of another size on which both run and return something else?"""
    modules = deep_copy(model), deep_copy(graph)
    for (other_args, other_kwargs), _ in vary(args, kwargs):
        found = [_outputs(module, other_args, other_kwargs) for module in modules]
        if found[0] and found[1] and not largest_error(found[0], found[1]) <= BAKED_IN:
            return True
    return False


def _outputs(module: nn.Module, args: Any, kwargs: Any) -> list[torch.Tensor]:
    """What a module returns; nothing where it does not run."""
    try:
        return run(module, args, kwargs)
    except Exception:
        return []
