"""The tiny transformers of the tests: every family once, its group worked out by hand."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from torch import nn

from benchmarks.reporting import ROOT

MODULES = ("encoders", "decoders", "pairs", "vision")


def _architectures() -> dict[str, Any]:
    folder = str(ROOT / "tests")
    if folder not in sys.path:
        sys.path.append(folder)
    for name in MODULES:
        importlib.import_module(f"transformer_{name}")
    found: dict[str, Any] = importlib.import_module("transformer_models").ARCHITECTURES
    return found


def transformer_names() -> list[str]:
    return list(_architectures())


def build_transformer(name: str) -> tuple[nn.Module, tuple[Any, ...], dict[str, Any]]:
    architecture = _architectures()[name]
    model: Any = architecture.factory()
    if hasattr(model, "set_experts_implementation"):
        # the kernels for experts know neither float64 nor rows of any number of bytes
        model.set_experts_implementation("eager")
    return model, (), architecture.inputs(1)
