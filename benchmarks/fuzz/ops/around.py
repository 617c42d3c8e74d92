"""Steps that lead around other steps: skips, branches, gates, weights that are used twice.

Each holds one or two bodies, and each body maps a value of some shape to one of the same shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.fuzz.ops.registry import (
    WIDEST,
    Call,
    Shape,
    axis,
    by_divisor,
    channels,
    channels_last,
)


def with_channels(shape: Shape, n: int) -> Shape:
    return (*shape[:-1], n) if len(shape) == 2 else (n, *shape[1:])


ON_ALL: dict[str, Callable[..., Tensor]] = {
    "skip": lambda h, body: h + body(h),
    "gate": lambda h, body: h * body(h).sigmoid(),
    "maximum": lambda h, body: torch.maximum(h, body(h)),
    "twice": lambda h, body: body(body(h)),
    "summed": lambda h, body, other: body(h) + other(h),
}
JOINED = ("dense", "branches")
"""These make twice as many channels."""
ON_HALVES = ("halves", "siamese")
AROUND = (*ON_ALL, *JOINED, *ON_HALVES, "part", "tied")


def body_count(name: str) -> int:
    return 2 if name in ("summed", "branches") else 1


def arguments(name: str, shape: Shape) -> list[tuple[Any, ...]]:
    """What may stand before the bodies; nothing at all if the step does not fit."""
    if name == "part":
        return by_divisor(shape)
    if name == "tied":
        return [(6,), (8,)]
    n = channels(shape)
    fits = n % 2 == 0 if name in ON_HALVES else name not in JOINED or 2 * n <= WIDEST
    return [()] if fits else []


def shape_inside(name: str, shape: Shape, *given: int) -> Shape:
    """The shape that the bodies are given, and must return."""
    if name in ON_HALVES:
        return with_channels(shape, channels(shape) // 2)
    return with_channels(shape, given[0]) if given else shape


def around(name: str, shape: Shape, given: tuple[Any, ...], bodies: list[nn.Module]) -> nn.Module:
    """The module of a step that leads around its bodies."""
    d, c = axis(shape), channels(shape)
    body, other = bodies[0], bodies[-1]
    if name in ON_ALL:
        parts = {"body": body, "other": other} if name == "summed" else {"body": body}
        return Call(ON_ALL[name], **parts)
    if name == "dense":
        return Call(lambda h, body: torch.cat([h, body(h)], d), body=body)
    if name == "branches":
        return Call(lambda h, m, k: torch.cat([m(h), k(h)], d), body=body, other=other)
    if name == "tied":
        return channels_last(shape, Tied(shape, given[0], body))
    if name == "part":
        cut, joined = [given[0], c - given[0]], lambda a, b, m: (m(a), b)
    elif name == "halves":
        cut, joined = [c // 2, c - c // 2], lambda a, b, m: (a + m(b), b)
    else:
        assert name == "siamese", name
        cut, joined = [c // 2, c - c // 2], lambda a, b, m: (m(a), m(b))

    def forward(h: Tensor, body: nn.Module) -> Tensor:
        a, b = h.split(cut, d)
        return torch.cat(joined(a, b, body), d)

    return Call(forward, body=body)


class Tied(nn.Module):
    """A weight that leads to the body's width, and, transposed, back."""

    def __init__(self, shape: Shape, width: int, body: nn.Module) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width, channels(shape)))
        self.turned = len(shape) == 3
        self.body = body

    def forward(self, h: Tensor) -> Tensor:
        """Takes channels last; the body has them where the shape says."""
        h = F.linear(h, self.weight)
        h = self.body(h.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) if self.turned else self.body(h)
        return F.linear(h, self.weight.t())
