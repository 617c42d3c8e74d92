"""The backend that compiles what comes out of this library's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx

Compiled = Callable[..., Any]


def compile_inner(
    inner: str | Callable[..., Any],
    graph_module: fx.GraphModule,
    example_inputs: Sequence[Any],
    options: Mapping[str, Any],
) -> Compiled:
    """Have another backend compile a graph, with the options that ``torch.compile`` was given."""
    compiler = torch._dynamo.lookup_backend(inner) if isinstance(inner, str) else inner
    compiled: Compiled = compiler(graph_module, list(example_inputs), **options)
    return compiled
