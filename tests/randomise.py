"""Random weights that no symmetry hides behind, and comparison of outputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

STATISTICS = {"running_mean": 0.0, "running_var": 1.0}
"""Buffers that are statistics of units, and what is added to keep them in their range."""


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Fill every parameter and running statistic with random float64 numbers, in place.

    Affines, biases, scales and zero-initialised parameters are included; other buffers are
    constants of the model and stay as they are.
    """
    generator = torch.Generator().manual_seed(seed)
    model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            fan_in = max(parameter.numel() // len(parameter), 1) if parameter.ndim > 1 else 1
            fresh = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(fresh / fan_in**0.5)
        for name, buffer in model.named_buffers():
            kind = name.rpartition(".")[2]
            if kind in STATISTICS:
                fresh = torch.rand(buffer.shape, generator=generator, dtype=torch.float64)
                buffer.copy_(fresh + STATISTICS[kind])
    return model


def evaluate(model: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Every tensor among the outputs; floating point inputs are raised to float64."""
    raised = [x.double() if x.is_floating_point() else x.clone() for x in inputs]
    with torch.no_grad():
        outputs: Any = model(*raised)
    return [y.clone() for y in tree_leaves(outputs) if isinstance(y, Tensor)]


def difference(a: list[Tensor], b: list[Tensor]) -> float:
    """The largest difference between two lists of outputs, relative to each output's size."""
    assert len(a) == len(b)
    assert all(x.double().isfinite().all() for x in [*a, *b])
    return max(
        float((x.double() - y.double()).abs().max() / y.double().abs().max().clamp_min(1e-300))
        for x, y in zip(a, b, strict=True)
    )
