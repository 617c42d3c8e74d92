"""The one-call interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from .propagation import propagate
from .segments import build_symmetry
from .symmetry import Symmetry
from .tracing import trace


def analyze(
    model: nn.Module, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
) -> Symmetry:
    graph = trace(model)
    found = propagate(graph, model, args, dict(kwargs or {}))
    return build_symmetry(found.units, found.parameters, dict(found.unknown_ops))
