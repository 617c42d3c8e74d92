"""Random weights that hide no mistake, and how much the outputs of a model with them change.

A freshly built network forgives much: affines are one, biases and whole layers are zero, BatchNorm
statistics are all alike, so a tensor that moves wrongly changes nothing. :func:`randomise` draws
all of them afresh, whatever they were, which suits small networks. :func:`randomise_deep` keeps
signals and rounding errors small through hundreds of layers, for which it has to run the model.
(The library's own test of a group does neither: it disturbs the weights that a model has, whose
scale and control flow must stay what they are.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fxrebasin.models.precision import largest_error, to_double
from fxrebasin.models.reachable import reachable_tensors

M = TypeVar("M", bound=nn.Module)

STATE = {"running_mean": 0.0, "running_var": 0.5, "state": 0.5}
"""Buffers that checkpoints fill, and what is added to keep them in their range."""


@torch.no_grad()
def randomise(model: M, seed: int = 0) -> M:
    """Draw every parameter and buffer that checkpoints fill afresh, in double precision, in place.

    Matrices and kernels are scaled by what they sum over, so that values neither vanish nor grow;
    buffers that are constants of the model stay as they are. The model is returned in eval mode.

    >>> layer = randomise(nn.LayerNorm(2))
    >>> layer.weight.unique().numel(), layer.weight.dtype
    (2, torch.float64)
    """
    generator = torch.Generator().manual_seed(seed)
    to_double(model).eval()
    for parameter in model.parameters():
        summed = parameter.numel() // max(len(parameter), 1) if parameter.ndim > 1 else 1
        fresh = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        parameter.copy_(fresh / max(summed, 1) ** 0.5)
    for name, buffer in model.named_buffers():
        kind = name.rpartition(".")[2]
        if kind in STATE:
            fresh = torch.rand(buffer.shape, generator=generator, dtype=buffer.dtype)
            buffer.copy_(fresh + STATE[kind])
    return model


@torch.no_grad()
def randomise_deep(model: nn.Module, *args: Any, **kwargs: Any) -> None:
    """Give every parameter and every BatchNorm statistic a value of its own, in place.

    Weight matrices and kernels keep the variance of what they act on (He et al. 2015), so that
    signals neither vanish nor explode in deep models. Statistics are those that the inputs cause,
    moved away by about a standard deviation: with arbitrary ones, a few channels would drown the
    others. Most are moved down, which opens most ReLUs; behind half-open ones a random network is
    chaotic, and its rounding errors grow layer by layer.

    >>> layer = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval()
    >>> randomise_deep(layer, torch.randn(1, 3, 8, 8))
    >>> len(layer[1].running_mean.unique())
    4
    """
    for name, parameter in model.named_parameters():
        if not name.endswith("weight"):
            parameter.add_(torch.randn_like(parameter), alpha=0.5)
        elif parameter.ndim == 1:
            parameter.masked_fill_(parameter == 0, 1.0)  # else a whole branch would be silent
            parameter.mul_(torch.rand_like(parameter) + 0.5)
        else:
            parameter.normal_(std=(2 / max(parameter[0].numel(), 1)) ** 0.5)
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    hooks = [layer.register_forward_pre_hook(_fit_statistics) for layer in layers]
    try:
        model(*args, **kwargs)
    finally:
        for hook in hooks:
            hook.remove()


def _fit_statistics(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
    (x,) = args
    assert isinstance(layer, _BatchNorm)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    others = [d for d in range(x.ndim) if d != 1]
    variance, mean = torch.var_mean(x, dim=others, correction=0)
    least = 0.1 * float(variance.mean()) or 1.0  # of one value there is none
    variance.clamp_(min=least)  # a dead channel must not amplify noise
    layer.running_mean.copy_(mean + variance.sqrt() * (0.5 * torch.randn_like(mean) - 1))
    layer.running_var.copy_(variance * (torch.rand_like(variance) + 0.5))


@torch.no_grad()
def evaluate(model: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Copies of all tensors that can be reached from a result; inputs are raised to float64."""
    raised = [x.double() if x.is_floating_point() else x.clone() for x in inputs]
    return [y.clone() for y in reachable_tensors(model(*raised))]


def difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest error of an output, relative to its largest entry; inf if one is not finite."""
    if not all(bool(y.isfinite().all()) for y in [*found, *expected]):
        return float("inf")
    return largest_error(expected, found)
