"""The examples in the docstrings of the benchmarks run."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest
import torch

import benchmarks

ROOT = Path(benchmarks.__path__[0]).parent
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "benchmarks").rglob("*.py")
    if ">>> " in path.read_text()
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run(name: str) -> None:
    torch.manual_seed(0)
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0 == result.failed
