"""Run a model in float64, also where it asks for float32."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only


class _Raised(TorchFunctionMode):
    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        func = Tensor.double if func is Tensor.float else func
        args, kwargs = tree_map_only(torch.dtype, _raised, (args, kwargs or {}))
        return func(*args, **kwargs)


def _raised(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype is torch.float32 else dtype


@torch.no_grad()
def run_in_double_precision(model: nn.Module, args: Any, kwargs: Any) -> Any:
    """What a model of float64 parameters computes; inputs are raised as well.

    Norms, softmaxes and positions are often computed in float32 whatever the model is: here they
    are not, nor are constants that the model makes.
    """
    args, kwargs = tree_map_only(
        Tensor, lambda t: t.double() if t.is_floating_point() else t, (args, kwargs)
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Raised():
            return model(*args, **kwargs)
    finally:
        torch.set_default_dtype(before)
