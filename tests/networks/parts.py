"""Modules and frames that networks are built with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Tensor) -> Any:
        return self.function(*args)


class Residual(nn.Sequential):
    def forward(self, input: Tensor) -> Tensor:
        return input + super().forward(input)


def around(function: Callable[[Tensor], Tensor], n: int, m: int | None = None) -> nn.Module:
    """``Linear(3, n)``, tanh, the function, ``Linear(m, 2)``."""
    return nn.Sequential(
        nn.Linear(3, n), nn.Tanh(), Apply(function), nn.Linear(n if m is None else m, 2)
    )


def around2d(*layers: nn.Module | Callable[[Tensor], Tensor], n: int, m: int) -> nn.Module:
    """A convolution to ``n`` channels, the layers, a convolution from ``m`` channels."""
    modules = [x if isinstance(x, nn.Module) else Apply(x) for x in layers]
    return nn.Sequential(nn.Conv2d(3, n, 3), nn.Tanh(), *modules, nn.Tanh(), nn.Conv2d(m, 2, 1))


def stream(block: nn.Module, width: int = 5) -> nn.Module:
    """A residual stream around a block."""
    return nn.Sequential(nn.Linear(3, width), Residual(block), nn.Linear(width, 2))
