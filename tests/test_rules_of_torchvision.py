"""The rules of torchvision's ops, which not every installation has; where they look is legal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor

from fxrebasin.rules.table import OTHER_LIBRARIES
from fxrebasin.testing import check_rule

assert torchvision.ops  # its import makes the ops known
ops = torch.ops.torchvision

_values = torch.Generator().manual_seed(0)


def x(*shape: int) -> Tensor:
    return torch.randn(shape, generator=_values, dtype=torch.float64)


def inside(boxes: Tensor) -> Tensor:
    """Boxes of images that there are, whatever the numbers were."""
    image, corners = boxes[:, :1] > boxes[:, :1].mean(), boxes[:, 1:].abs() % 3
    return torch.cat([image.to(boxes), corners], dim=1)


def align(x: Tensor, boxes: Tensor) -> Any:
    return ops.roi_align(x, inside(boxes), 1.0, 2, 2, 2, False)


def pool(x: Tensor, boxes: Tensor) -> Any:
    return ops.roi_pool(x, inside(boxes), 1.0, 2, 2)


def suppressed(boxes: Tensor, scores: Tensor) -> Tensor:
    kept = ops.nms(boxes, scores, 0.5)
    return torch.zeros(len(boxes), dtype=boxes.dtype).index_fill(0, kept, 1.0)


DEFORMED = x(2, 4, 5, 6), x(3, 4, 2, 2), x(2, 8, 4, 5), x(2, 4, 4, 5), x(3)
SAMPLES: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "torchvision::deform_conv2d": (
        ops.deform_conv2d,
        (*DEFORMED, 1, 1, 0, 0, 1, 1, 1, 1, True),
    ),
    "torchvision::nms": (suppressed, (x(3, 4), x(3))),
    "torchvision::roi_align": (align, (x(2, 3, 5, 4), x(4, 5))),
    "torchvision::roi_pool": (pool, (x(2, 3, 5, 4), x(4, 5))),
}


def test_every_rule_has_a_sample() -> None:
    assert list(SAMPLES) == list(OTHER_LIBRARIES)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_rule_allows_nothing_that_its_op_does_not(name: str) -> None:
    op, args = SAMPLES[name]
    check = check_rule(op, *args, rule=OTHER_LIBRARIES[name], complete=False)
    assert check.sound, str(check)


@pytest.mark.parametrize("name", ["torchvision::roi_align", "torchvision::roi_pool"])
def test_channels_of_regions_move(name: str) -> None:
    op, args = SAMPLES[name]
    check = check_rule(op, *args, rule=OTHER_LIBRARIES[name], complete=False)
    moved = {axis for block in check.symmetry for axis in block.axes}
    assert {("x", 1)} < moved


def test_channels_of_deformed_convolutions_move() -> None:
    op, args = SAMPLES["torchvision::deform_conv2d"]
    check = check_rule(op, *args, complete=False)
    blocks = [set(block.axes) for block in check.symmetry]
    assert {("input", 1), ("weight", 1)} in blocks
    assert {("weight", 0), ("bias", 0), ("result", 1)} in blocks
