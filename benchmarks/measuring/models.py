"""The torchvision classifiers that the benchmarks measure."""

from __future__ import annotations

import torch
from torch import Tensor, nn
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
