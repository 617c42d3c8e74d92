"""Example arguments for the ops of torchvision, as ``rule_samples`` has for those of torch."""

from __future__ import annotations

from typing import Any

import torch
import torchvision
from rule_samples import Sample, call, x
from torch import Tensor

assert torchvision.ops  # its import makes the ops known
ops = torch.ops.torchvision


def inside(boxes: Tensor) -> Tensor:
    """Boxes of images that there are, whatever the numbers were."""
    image, corners = boxes[:, :1] > boxes[:, :1].mean(), boxes[:, 1:].abs() % 3
    return torch.cat([image.to(boxes), corners], dim=1)


def align(x: Tensor, boxes: Tensor) -> Any:
    return ops.roi_align(x, inside(boxes), 1.0, 2, 2, 2, False)


def pool(x: Tensor, boxes: Tensor) -> Any:
    pooled, places = ops.roi_pool(x, inside(boxes), 1.0, 2, 2)
    return pooled, places.double()


def suppressed(boxes: Tensor, scores: Tensor) -> Tensor:
    kept = ops.nms(boxes, scores, 0.5)
    return torch.zeros(len(boxes), dtype=boxes.dtype).index_fill(0, kept, 1.0)


OVERLAPPING = torch.tensor(
    [[0, 0, 4, 4], [0, 0, 4, 5], [8, 8, 9, 9], [8, 8, 10, 9], [0, 1, 4, 5]], dtype=torch.float64
)
DEFORMED = x(2, 4, 5, 6), x(3, 4, 2, 2), x(2, 8, 4, 5), x(2, 4, 4, 5), x(3)

SAMPLES = [
    call(ops.deform_conv2d, *DEFORMED, 1, 1, 0, 0, 1, 1, 1, 1, True),
    call(
        ops.deform_conv2d,
        *(x(2, 4, 5, 6), x(6, 2, 2, 2), *DEFORMED[2:4], x(6)),
        *(1, 1, 0, 0, 1, 1, 2, 1, True),
    ),
    *(
        call(
            ops.deform_conv2d,
            *(x(1, 4, 4, 3), x(6, 4 // groups, 1, 2), x(1, 2 * 2 * 2, 4, 2), x(1, 2 * 2, 4, 2)),
            *(x(6), 1, 1, 0, 0, 1, 1, groups, 2, use_mask),
        )
        for groups in (1, 2)
        for use_mask in (True, False)
    ),
    Sample(ops.nms, (OVERLAPPING, x(5)), stand_in=suppressed),
    Sample(ops.roi_align, (x(2, 3, 5, 4), x(4, 5)), stand_in=align),
    Sample(ops.roi_pool, (x(2, 3, 5, 4), x(4, 5)), stand_in=pool),
]
