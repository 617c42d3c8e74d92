"""What a module keeps between calls: buffers, and whatever can be reached from its attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from .copying import attributes
from .reachable import leaves_of

State = dict[str, Any]
"""From the way that leads to it to what is there; tensors are copied."""


def state_of(model: nn.Module, *, buffers: bool = True) -> State:
    """All that forward may change of a module, but for parameters."""
    found: State = {}
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        if buffers:
            for key, value in module._buffers.items():
                found[f"{prefix}{key}"] = _frozen(value)
        own = attributes(module).items()
        for key, value in own:
            for path, leaf in leaves_of(value, strict=False):
                found[f"{prefix}{key}{path}"] = _frozen(leaf)
    return found


def changes(before: State, after: State) -> list[str]:
    """Where two states differ."""
    names = [*before, *(name for name in after if name not in before)]
    return [n for n in names if not is_equal(before.get(n, _NOTHING), after.get(n, _NOTHING))]


_NOTHING = object()


def _frozen(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        return leaf.detach().clone()
    if isinstance(leaf, torch.Generator):
        return leaf.get_state()
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf


def is_equal(one: Any, other: Any) -> bool:
    """Are two leaves the same, tensors and arrays number by number?"""
    if isinstance(one, nn.Module) and isinstance(other, nn.Module):
        return True  # has a state of its own
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, torch.Tensor):
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        if one.layout != torch.strided or other.layout != torch.strided:
            return True
        return bool(((one == other) | (one != one)).all())
    return one is other or bool(one == other)
