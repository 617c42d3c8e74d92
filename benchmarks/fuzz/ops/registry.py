"""Names of ops, and the few modules and measures that all families of ops use.

The shape of a value leaves out the batch: a vector is ``(c,)``, tokens are ``(t, c)`` and an image
is ``(c, h, w)``. Channels thus lie on axis 2 of tokens, and on axis 1 of everything else.

>>> sorted(divisions(12))
[(2, 6), (3, 4), (4, 3), (6, 2)]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor, nn

Shape = tuple[int, ...]
Arguments = tuple[Any, ...]
Options = Callable[[Shape], Iterable[Arguments]]
Make = TypeVar("Make", bound=Callable[..., nn.Module])

WIDTHS = (6, 8, 12, 24)
"""Widths that layers choose from: many divisors, few digits."""
WIDEST = 48
"""No op makes more channels than this."""
LARGEST = 12
"""No op makes a longer side than this."""


@dataclass(frozen=True)
class Op:
    """Something to do to a value of a certain shape."""

    name: str
    profile: str
    """Which networks have it: all for "ordinary", else only those of this profile."""
    outer: bool
    """Whether it changes the number of axes or tokens, so that nothing can lead around it."""
    options: Options
    make: Callable[..., nn.Module]


OPS: dict[str, Op] = {}


def always(shape: Shape) -> list[Arguments]:
    """The options of an op that takes no arguments."""
    return [()]


def op(
    options: Options = always, *, profile: str = "ordinary", outer: bool = False
) -> Callable[[Make], Make]:
    """Register a function from a shape, and arguments that fit it, to a module."""

    def register(make: Make) -> Make:
        name = make.__name__.rstrip("_")
        assert name not in OPS, name
        OPS[name] = Op(name, profile, outer, options, make)
        return make

    return register


def odd(options: Options = always) -> Callable[[Make], Make]:
    """Register an op that only networks of the odd profile have."""
    return op(options, profile="odd")


def program(options: Options = always) -> Callable[[Make], Make]:
    """Register an op that only networks of the program profile have."""
    return op(options, profile="program")


def channels(shape: Shape) -> int:
    return shape[-1] if len(shape) == 2 else shape[0]


def axis(shape: Shape) -> int:
    """The axis of a tensor, batch included, on which its channels lie."""
    return 2 if len(shape) == 2 else 1


def divisors(n: int) -> list[int]:
    """The divisors other than 1 and the number itself."""
    return [k for k in range(2, n) if n % k == 0]


def divisions(n: int) -> list[Arguments]:
    """The ways to arrange channels in rows and columns."""
    return [(k, n // k) for k in divisors(n)]


def by_divisor(shape: Shape) -> list[Arguments]:
    return [(k,) for k in divisors(channels(shape))]


def by_division(shape: Shape) -> list[Arguments]:
    return divisions(channels(shape))


def even(shape: Shape) -> list[Arguments]:
    return [()] if channels(shape) % 2 == 0 else []


def only(rank: int, options: Options = always) -> Options:
    """Options for values of one kind: 1 vectors, 2 tokens, 3 images."""
    return lambda shape: options(shape) if len(shape) == rank else []


class Call(nn.Module):
    """A function as a module; what it needs to store is registered by name."""

    def __init__(self, function: Callable[..., Tensor], **stored: Tensor | nn.Module) -> None:
        super().__init__()
        self.function = function
        self.names = tuple(stored)
        for name, value in stored.items():
            if isinstance(value, nn.Parameter):
                self.register_parameter(name, value)
            elif isinstance(value, nn.Module):
                self.add_module(name, value)
            else:
                self.register_buffer(name, value)

    def forward(self, h: Tensor) -> Tensor:
        return self.function(h, *(getattr(self, name) for name in self.names))


def channels_last(shape: Shape, module: nn.Module) -> nn.Module:
    """Apply a module that expects channels on the last axis."""
    if len(shape) < 3:
        return module
    return Call(lambda h, m: m(h.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), layer=module)


def channels_second(shape: Shape, module: nn.Module) -> nn.Module:
    """Apply a module that expects channels on axis 1."""
    if len(shape) != 2:
        return module
    return Call(lambda h, m: m(h.transpose(1, 2)).transpose(1, 2), layer=module)


def as_tokens(shape: Shape, module: nn.Module) -> nn.Module:
    """Apply a module that expects tokens, to the positions of an image too."""
    if len(shape) == 2:
        return module
    _, height, width = shape
    return Call(
        lambda h, m: m(h.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, (height, width)),
        layer=module,
    )
