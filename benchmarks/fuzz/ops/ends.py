"""The first and the last step of a random network: what makes its inputs, and its outputs."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.fuzz.ops.registry import Call, Shape, axis, channels, channels_last

Step = tuple[Any, ...]

STEMS: tuple[Step, ...] = (
    *(("vector", 5, c) for c in (6, 12, 24)),
    *(("tokens", t, c) for t in (3, 4) for c in (12, 8, 24)),
    *(("words", t, c) for t in (3, 4) for c in (12, 8)),
    *(("image", s, c) for s in (4, 6) for c in (6, 12, 24)),
)
HEADS = ("each", "pool", "flat", "partial", "energy")
PROGRAM_HEADS = ("object", "distribution", "nested", "kept", "deque")
"""Outputs that are not tensors but hold some."""
INPUTS, WORDS, OUTPUTS = 5, 11, 3
"""Features of an input, words of a vocabulary, features of an output."""


def stem(kind: str, size: int, width: int) -> nn.Module:
    if kind == "words":
        return nn.Embedding(WORDS, width)
    if kind == "image":
        return nn.Conv2d(3, width, 3, padding=1)
    return nn.Linear(size if kind == "vector" else INPUTS, width)


def inputs(first: Step, generator: torch.Generator, batch: int = 2) -> tuple[Tensor]:
    """Random float32 (or integer) inputs for a network whose first step is given."""
    kind, size, _ = first
    if kind == "words":
        return (torch.randint(WORDS, (batch, size), generator=generator),)
    shape = {"vector": (size,), "tokens": (size, INPUTS), "image": (3, size, size)}[kind]
    return (torch.randn(batch, *shape, generator=generator),)


def head(shape: Shape, kind: str) -> nn.Module:
    """From the last value to the outputs; what they do not tell apart may still be permuted."""
    d, c = axis(shape), channels(shape)
    if kind in PROGRAM_HEADS:
        return Answer(kind, channels_last(shape, nn.Linear(c, OUTPUTS)))
    if kind == "energy":
        return Call(lambda h: h.square().mean(d))
    if kind == "flat":
        return nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), OUTPUTS))
    layer = nn.Linear(c, OUTPUTS)
    if kind == "each":
        return channels_last(shape, layer)
    if kind == "partial":
        return Partial(d, c // 3, max(c // 3, 1), channels_last(shape, layer))
    assert kind == "pool", kind
    places = {1: (), 2: (1,), 3: (2, 3)}[len(shape)]
    return Call(lambda h, m: m(h.mean(places) if places else h), layer=layer)


class Partial(nn.Module):
    """A linear output, and the sum of some of the channels as a second one."""

    def __init__(self, d: int, start: int, n: int, layer: nn.Module) -> None:
        super().__init__()
        self.d, self.start, self.n, self.layer = d, start, n, layer

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer(h), h.narrow(self.d, self.start, self.n).sum(self.d)


class Answer(nn.Module):
    """A linear output inside something else."""

    def __init__(self, kind: str, layer: nn.Module) -> None:
        super().__init__()
        self.kind, self.layer = kind, layer

    def forward(self, h: Tensor) -> Any:
        logits = self.layer(h)
        if self.kind == "object":
            return SimpleNamespace(logits=logits, shape=h.shape)
        if self.kind == "distribution":
            return torch.distributions.Normal(logits, 1.0)
        if self.kind == "nested":
            return {"all": [logits, {"again": (logits.tanh(),)}], "size": h.shape[0]}
        if self.kind == "kept":
            self.seen = logits
            return h.square().mean()
        return {"logits": logits, "features": deque([h.square().sum()])}
