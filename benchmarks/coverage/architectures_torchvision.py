"""torchvision's models other than classifiers: segmentation, video, optical flow, detection.

Inputs are small: symmetry does not depend on them, and a feature map has to be no larger than
what the model can take.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

Built = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]

SMALL_VIDEO = {"s3d": (1, 3, 16, 224, 224)}
"""The shapes of inputs that are not those of the family."""

DETECTOR = {"min_size": 160, "max_size": 224}
TWO_STAGES = {
    "rpn_score_thresh": 0.0,
    "box_score_thresh": 0.0,
    "box_nms_thresh": 0.9,
    "box_detections_per_img": 20,
}
ONE_STAGE = {"score_thresh": 0.0, "nms_thresh": 0.9, "detections_per_img": 20}
"""An untrained detector is sure of nothing: what it would discard is kept, to be compared."""


def segmentation_names() -> list[str]:
    return list(models.list_models(module=models.segmentation))


def build_segmentation(name: str) -> Built:
    model = models.get_model(name, weights=None, weights_backbone=None)
    return model, (torch.randn(1, 3, 64, 64),), {}


def video_names() -> list[str]:
    return list(models.list_models(module=models.video))


def build_video(name: str) -> Built:
    fixed = (1, 3, 16, 224, 224) if name.startswith("mvit") else (1, 3, 8, 64, 64)
    shape = SMALL_VIDEO.get(name, fixed)
    return models.get_model(name, weights=None), (torch.randn(shape),), {}


def flow_names() -> list[str]:
    return list(models.list_models(module=models.optical_flow))


def build_flow(name: str) -> Built:
    """The smallest images that RAFT takes; three updates stand for twelve."""
    images = torch.rand(2, 1, 3, 128, 128) * 2 - 1
    return models.get_model(name, weights=None), tuple(images), {"num_flow_updates": 3}


def detection_names() -> list[str]:
    return list(models.list_models(module=models.detection))


def build_detection(name: str) -> Built:
    kept = TWO_STAGES if "rcnn" in name else ONE_STAGE
    size = {} if name.startswith("ssd") else DETECTOR
    model = models.get_model(name, weights=None, weights_backbone=None, **kept, **size)
    images: list[Tensor] = [torch.rand(3, 128, 160)]
    return model, (images,), {}
