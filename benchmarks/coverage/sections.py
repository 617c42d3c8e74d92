"""What the coverage benchmark measures: sections of models, each built with inputs for one call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from benchmarks.coverage import (
    architectures_timm,
    architectures_torchvision,
    architectures_transformers,
)
from benchmarks.measuring.models import build_classifier, classifier_names

Built = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Section:
    """Models of one kind; both functions import the library that they are from."""

    title: str
    names: Callable[[], list[str]]
    build: Callable[[str], Built]


def _classifier(name: str) -> Built:
    model, image = build_classifier(name)
    return model, (image,), {}


SECTIONS = {
    "classification": Section("torchvision: classification", classifier_names, _classifier),
    "segmentation": Section(
        "torchvision: segmentation",
        architectures_torchvision.segmentation_names,
        architectures_torchvision.build_segmentation,
    ),
    "video": Section(
        "torchvision: video",
        architectures_torchvision.video_names,
        architectures_torchvision.build_video,
    ),
    "flow": Section(
        "torchvision: optical flow",
        architectures_torchvision.flow_names,
        architectures_torchvision.build_flow,
    ),
    "detection": Section(
        "torchvision: detection",
        architectures_torchvision.detection_names,
        architectures_torchvision.build_detection,
    ),
    "timm": Section(
        "timm: one of every family", architectures_timm.timm_names, architectures_timm.build_timm
    ),
    "transformers": Section(
        "transformers: tiny configurations",
        architectures_transformers.transformer_names,
        architectures_transformers.build_transformer,
    ),
}
