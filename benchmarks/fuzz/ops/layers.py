"""Linear and convolutional layers, activations and gates."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from benchmarks.fuzz.ops.registry import (
    WIDEST,
    WIDTHS,
    Arguments,
    Call,
    Shape,
    axis,
    by_division,
    by_divisor,
    channels,
    channels_last,
    channels_second,
    even,
    op,
)

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": F.relu,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "softplus": F.softplus,
    "hardswish": F.hardswish,
    "relu6": F.relu6,
    "mish": F.mish,
}


def widths(shape: Shape) -> list[Arguments]:
    return [(n,) for n in WIDTHS]


def groupings(shape: Shape) -> list[Arguments]:
    """Output channels, kernel and groups of a convolution."""
    c = channels(shape)
    kernels = (1,) if len(shape) == 1 else (1, 3)
    fits = [(n, k, g) for g in range(1, c) if c % g == 0 for n in WIDTHS for k in kernels]
    return [(n, k, g) for n, k, g in fits if n % g == 0]


@op(lambda shape: [(name,) for name in ACTIVATIONS])
def activation(shape: Shape, name: str) -> nn.Module:
    return Call(ACTIVATIONS[name])


@op(lambda shape: [(1,), (channels(shape),)])
def prelu(shape: Shape, n: int) -> nn.Module:
    return channels_second(shape, nn.PReLU(n))


@op(widths)
def linear(shape: Shape, n: int) -> nn.Module:
    return channels_last(shape, nn.Linear(channels(shape), n))


@op(widths)
def weight_normed(shape: Shape, n: int) -> nn.Module:
    return channels_last(shape, parametrizations.weight_norm(nn.Linear(channels(shape), n)))


@op(lambda shape: [(n, k) for n in WIDTHS for k in (2, 3)])
def maxout(shape: Shape, n: int, pieces: int) -> nn.Module:
    layer = nn.Linear(channels(shape), n * pieces)
    widest = Call(lambda h, m: m(h).unflatten(-1, (n, pieces)).amax(-1), layer=layer)
    return channels_last(shape, widest)


def convolution(shape: Shape, layer: nn.Module) -> nn.Module:
    """A layer that was made for images if there are any, else one for signals."""
    if len(shape) == 1:
        return Call(lambda h, m: m(h[:, :, None])[:, :, 0], layer=layer)
    return channels_second(shape, layer)


def same_size_conv(shape: Shape, n: int, kernel: int, groups: int) -> nn.Module:
    """The layer alone, for :func:`convolution` to put to use."""
    kind = nn.Conv2d if len(shape) == 3 else nn.Conv1d
    return kind(channels(shape), n, kernel, padding=kernel // 2, groups=groups)


@op(groupings)
def conv(shape: Shape, n: int, kernel: int, groups: int) -> nn.Module:
    return convolution(shape, same_size_conv(shape, n, kernel, groups))


@op(lambda shape: [(k,) for k in (1, 2) if k * channels(shape) <= WIDEST])
def depthwise(shape: Shape, multiple: int) -> nn.Module:
    c, kernel = channels(shape), 1 if len(shape) == 1 else 3
    kind = nn.Conv2d if len(shape) == 3 else nn.Conv1d
    layer = kind(c, multiple * c, kernel, padding=kernel // 2, groups=c, bias=multiple == 1)
    return convolution(shape, layer)


@op(groupings)
def transposed_conv(shape: Shape, n: int, kernel: int, groups: int) -> nn.Module:
    kind = nn.ConvTranspose2d if len(shape) == 3 else nn.ConvTranspose1d
    layer = kind(channels(shape), n, kernel, padding=kernel // 2, groups=groups)
    return convolution(shape, layer)


@op(widths)
def mlp(shape: Shape, hidden: int) -> nn.Module:
    c = channels(shape)
    layers = nn.Sequential(nn.Linear(c, hidden), nn.GELU(), nn.Linear(hidden, c))
    return channels_last(shape, layers)


@op(widths)
def swiglu(shape: Shape, hidden: int) -> nn.Module:
    c = channels(shape)
    up, down = nn.Linear(c, 2 * hidden), nn.Linear(hidden, c)

    def forward(h: torch.Tensor, up: nn.Module, down: nn.Module) -> torch.Tensor:
        gate, value = up(h).chunk(2, -1)
        return down(F.silu(gate) * value)

    return channels_last(shape, Call(forward, up=up, down=down))


@op(even)
def glu(shape: Shape) -> nn.Module:
    d = axis(shape)
    return Call(lambda h: F.glu(h, d))


@op(even)
def gated_halves(shape: Shape) -> nn.Module:
    """GLU written out, with another gate."""
    d = axis(shape)

    def forward(h: torch.Tensor) -> torch.Tensor:
        a, b = h.chunk(2, d)
        return a * torch.tanh(b)

    return Call(forward)


@op(by_divisor)
def squeeze_excite(shape: Shape, squeezed: int) -> nn.Module:
    c = channels(shape)
    down, up = nn.Linear(c, squeezed), nn.Linear(squeezed, c)
    places = (1,) if len(shape) == 2 else (2, 3)

    def forward(h: torch.Tensor, down: nn.Module, up: nn.Module) -> torch.Tensor:
        if len(shape) == 1:
            return h * up(down(h).relu()).sigmoid()
        scale = up(down(h.mean(places)).relu()).sigmoid()
        return h * (scale[:, None] if len(shape) == 2 else scale[:, :, None, None])

    return Call(forward, down=down, up=up)


@op(by_division)
def shuffle(shape: Shape, groups: int, each: int) -> nn.Module:
    d = axis(shape)
    return Call(lambda h: h.unflatten(d, (groups, each)).transpose(d, d + 1).flatten(d, d + 1))


@op(lambda shape: by_divisor(shape) if len(shape) == 3 else [])
def shuffle_module(shape: Shape, groups: int) -> nn.Module:
    return nn.ChannelShuffle(groups)


@op(lambda shape: [(k, n) for k in (2, 3) for n in WIDTHS])
def experts(shape: Shape, count: int, n: int) -> nn.Module:
    """A soft mixture of linear experts, which are interchangeable."""
    c = channels(shape)
    router, layers = nn.Linear(c, count), nn.Linear(c, count * n)

    def forward(h: torch.Tensor, router: nn.Module, layers: nn.Module) -> torch.Tensor:
        shares = router(h).softmax(-1)
        return torch.einsum("...e,...en->...n", shares, layers(h).unflatten(-1, (count, n)))

    return channels_last(shape, Call(forward, router=router, layers=layers))


@op(lambda shape: [(n,) for n in WIDTHS if len(shape) == 1])
def bilinear(shape: Shape, n: int) -> nn.Module:
    layer = nn.Bilinear(channels(shape), channels(shape), n)
    return Call(lambda h, m: m(h, h.tanh()) / 4, layer=layer)
