"""Convolutions, grouped ones too, whose weights are normalised before they are used."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import register_parametrization

from benchmarks.fuzz.ops.layers import convolution, groupings, same_size_conv
from benchmarks.fuzz.ops.registry import Arguments, Shape, channels, op


class Standardised(nn.Module):
    """Every filter gets mean 0 and variance 1."""

    def forward(self, weight: Tensor) -> Tensor:
        variance, mean = torch.var_mean(weight, dim=tuple(range(1, weight.ndim)), keepdim=True)
        return (weight - mean) / torch.sqrt(variance + 1e-2)


class ScaledStandardised(nn.Module):
    """The same as a batch norm in which filters take the place of channels, with gains."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.gains = nn.Parameter(torch.ones(count))

    def forward(self, weight: Tensor) -> Tensor:
        filters = weight.reshape(1, len(weight), -1)
        normal = F.batch_norm(filters, None, None, self.gains, training=True, eps=1e-2)
        return normal.reshape_as(weight)


def filter_sizes(shape: Shape) -> list[Arguments]:
    """Groupings in which a filter has more than one entry, of which there is a variance."""
    places = 2 if len(shape) == 3 else 1
    return [(n, k, g) for n, k, g in groupings(shape) if channels(shape) // g * k**places > 1]


@op(filter_sizes)
def standardised_conv(shape: Shape, n: int, kernel: int, groups: int) -> nn.Module:
    layer = same_size_conv(shape, n, kernel, groups)
    register_parametrization(layer, "weight", Standardised())
    return convolution(shape, layer)


@op(filter_sizes)
def scaled_standardised_conv(shape: Shape, n: int, kernel: int, groups: int) -> nn.Module:
    layer = same_size_conv(shape, n, kernel, groups)
    register_parametrization(layer, "weight", ScaledStandardised(n))
    return convolution(shape, layer)


@op(filter_sizes)
def weight_normed_conv(shape: Shape, n: int, kernel: int, groups: int) -> nn.Module:
    return convolution(
        shape, parametrizations.weight_norm(same_size_conv(shape, n, kernel, groups))
    )
