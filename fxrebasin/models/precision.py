"""In which precision does a model compute, whatever the dtype of its weights is?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Coarsest(TorchDispatchMode):
    """Remembers the coarsest dtype that numbers are rounded to while a model runs."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        finest = min(map(_eps, tree_leaves((args, kwargs))), default=1.0)
        for tensor in tree_leaves(out):
            if finest < _eps(tensor) < 1.0 and _eps(tensor) > torch.finfo(self.dtype).eps:
                self.dtype = real_dtype(tensor.dtype)
        return out


def real_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of the real and imaginary parts."""
    return torch.empty(0, dtype=dtype).real.dtype if dtype.is_complex else dtype


def _eps(value: Any) -> float:
    if isinstance(value, torch.Tensor) and value.numel() > 1:
        dtype = real_dtype(value.dtype)
        if dtype.is_floating_point:
            return torch.finfo(dtype).eps
    return 1.0


@contextmanager
def coarsest_dtype(dtype: torch.dtype) -> Iterator[Coarsest]:
    """Find the coarsest dtype that numbers of at least this precision are rounded to.

    Some models compute their norms or attention in float32, also when their weights are float64.
    """
    with Coarsest(dtype) as mode:
        yield mode
