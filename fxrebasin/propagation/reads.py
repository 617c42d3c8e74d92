"""Values that reach Python without an op, as by ``numpy`` and ``tolist``, are seen as functions."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from .dispatch import LayoutMode

READING = frozenset(
    getattr(torch.Tensor, name)
    for name in ("__array__", "__dlpack__", "__reduce_ex__", "numpy", "tolist")
)
"""Methods of tensors by which values reach Python, numpy, another library or a file."""


class Reads(TorchFunctionMode):
    """Tells the dispatch mode of every tensor whose values are read."""

    def __init__(self, mode: LayoutMode) -> None:
        super().__init__()
        self.mode = mode

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in READING and isinstance(args[0], torch.Tensor):
            self.mode.read(args[0], func.__name__)
        return func(*args, **(kwargs or {}))
