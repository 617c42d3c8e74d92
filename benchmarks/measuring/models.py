"""The torchvision classifiers that the benchmarks measure, with weights that hide no mistake.

A freshly built network forgives much: affines are one, biases and whole layers are zero, BatchNorm
statistics are all alike, so a tensor that moves wrongly changes nothing. :func:`randomise` draws
all of them afresh.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision import models


def classifier_names() -> list[str]:
    """All classification models of torchvision."""
    return list(models.list_models(module=models))


def native_size(name: str) -> int:
    """The image size that the best published weights of a model were evaluated at."""
    return int(models.get_model_weights(name).DEFAULT.transforms().crop_size[0])


def build_classifier(name: str) -> tuple[nn.Module, Tensor]:
    """An untrained model in eval mode, and one random image of its native size."""
    size = native_size(name)
    options: dict[str, object] = {}
    if name in ("googlenet", "inception_v3"):
        options = {"init_weights": False}  # minutes of scipy for weights that are drawn afresh
    if name.startswith("vit_"):
        options["image_size"] = size
    torch.manual_seed(0)
    model: nn.Module = models.get_model(name, weights=None, **options)
    return model.eval(), torch.randn(1, 3, size, size)


@torch.no_grad()
def randomise(model: nn.Module, *args: Any, **kwargs: Any) -> None:
    """Give every parameter and every BatchNorm statistic a value of its own, in place.

    Weight matrices and kernels keep the variance of what they act on (He et al. 2015), so that
    signals neither vanish nor explode in deep models. Statistics are those that the inputs cause,
    moved away by about a standard deviation: with arbitrary ones, a few channels would drown the
    others. Most are moved down, which opens most ReLUs; behind half-open ones a random network is
    chaotic, and its rounding errors grow layer by layer.

    >>> layer = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval()
    >>> randomise(layer, torch.randn(1, 3, 8, 8))
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
