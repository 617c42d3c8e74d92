"""The tiny transformers: every family once, its group worked out by hand."""

from __future__ import annotations

from typing import Any

from torch import nn

from benchmarks.coverage.tiny_transformers import ARCHITECTURES


def transformer_names() -> list[str]:
    return list(ARCHITECTURES)


def build_transformer(name: str) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    architecture = ARCHITECTURES[name]
    model: Any = architecture.factory()
    if hasattr(model, "set_experts_implementation"):
        # the kernels for experts know neither float64 nor rows of any number of bytes
        model.set_experts_implementation("eager")
    return model, (), architecture.inputs(1)
