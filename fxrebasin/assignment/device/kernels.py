"""The kernels that a device has beside tensor operations that do the same."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ...errors import SlowerWarning

if TYPE_CHECKING:
    from .fused import FusedPasses


class Kernels(NamedTuple):
    passes: type[FusedPasses]
    solve_small: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@functools.cache
def kernels(device: torch.device) -> Kernels | None:
    """What runs in kernels, where Triton is installed and compiles for the device.

    Warns:
        SlowerWarning: Triton is there, and does not work.
    """
    if device.type != "cuda":
        return None
    try:
        from .fused import FusedPasses
        from .small import solve_small
    except ImportError:
        return None
    try:
        one = torch.zeros(1, 1, 1, dtype=torch.int64, device=device)
        FusedPasses(one, one[0], one[0], one[0] - 1, far=1).run(1).item()
        solve_small(one, one[0])[0].tolist()
    except Exception as error:  # whatever the compiler and the driver raise
        reason = (str(error).strip().splitlines() or [""])[0]
        warnings.warn(
            f"assignments on {device} take more time than they need, since Triton does not compile "
            f"for it: {type(error).__name__}: {reason}",
            SlowerWarning,
            stacklevel=2,
        )
        return None
    return Kernels(FusedPasses, solve_small)
