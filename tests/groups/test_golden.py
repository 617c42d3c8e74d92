"""Golden values: the groups of torchvision's classifiers, worked out by hand.

Every formula is a sum of log n! over blocks; the sizes come from the architecture, not from the
library. They do not depend on the input, so small ones are used wherever a model takes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

import fxrebasin as fr
from benchmarks.measuring.random_weights import difference, evaluate, randomise


def log_factorial(*sizes: int) -> float:
    return math.fsum(math.lgamma(n + 1) for n in sizes)


def basic_resnet() -> float:
    """A residual stream per stage (the first is the stem's), one block inside each of 8 blocks."""
    return 3 * log_factorial(64, 128, 256, 512)


def bottlenecks(groups: int = 1, width: int = 64) -> float:
    """Stem, and per stage a residual stream and the inside of every bottleneck."""
    total = log_factorial(64)
    for k, depth in enumerate((3, 4, 6, 3)):
        inner = width * 2**k
        total += log_factorial(256 * 2**k)
        if groups == 1:
            total += depth * 2 * log_factorial(inner)
        else:
            inside = 2 * groups * log_factorial(inner // groups)
            total += depth * (log_factorial(groups) + inside)
    return total


def densenet() -> float:
    """Stem, transitions, and per dense layer a bottleneck of 128 and 32 new channels."""
    return log_factorial(64, 128, 256, 512) + (6 + 12 + 24 + 16) * log_factorial(128, 32)


def googlenet(model: nn.Module) -> float:
    """Branches that are only concatenated, so every convolution's channels are free; each of the
    two classifiers of training has one too, and a hidden layer."""
    sizes = [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)]
    return log_factorial(*sizes, 1024, 1024)


def shufflenet() -> float:
    """Channels split by the unit that consumes them: half at the next, a quarter after it ..."""
    sizes = {1024: 1, 96: 5, 48: 14, 24: 19, 12: 17, 6: 11, 3: 10, 2: 3}
    return math.fsum(count * log_factorial(n) for n, count in sizes.items())


def mobilenet() -> float:
    """(input, expanded, output, squeezed or 0) of every inverted residual."""
    layers = [
        (16, 16, 16, 8),
        (16, 72, 24, 0),
        (24, 88, 24, 0),
        (24, 96, 40, 24),
        (40, 240, 40, 64),
        (40, 240, 40, 64),
        (40, 120, 48, 32),
        (48, 144, 48, 40),
        (48, 288, 96, 72),
        (96, 576, 96, 144),
        (96, 576, 96, 144),
    ]
    total = log_factorial(16, 576, 1024)
    for k, (entering, expanded, leaving, squeezed) in enumerate(layers):
        residual = k > 0 and entering == leaving
        total += log_factorial(squeezed)
        total += 0 if expanded == entering else log_factorial(expanded)
        total += 0 if residual else log_factorial(leaving)
    return total


def efficientnet() -> float:
    stages = [(1, 32, 16, 1), (6, 16, 24, 2), (6, 24, 40, 2), (6, 40, 80, 3), (6, 80, 112, 3)]
    stages += [(6, 112, 192, 4), (6, 192, 320, 1)]
    total = log_factorial(32, 1280)
    for ratio, entering, leaving, depth in stages:
        total += log_factorial(leaving)
        for k in range(depth):
            width = leaving if k else entering
            total += log_factorial(width // 4)
            total += log_factorial(ratio * width) if ratio > 1 else 0
    return total


def convnext() -> float:
    stages = zip((96, 192, 384, 768), (3, 3, 9, 3), strict=True)
    return math.fsum(log_factorial(d) + depth * log_factorial(4 * d) for d, depth in stages)


def attention(heads: int, dim: int) -> float:
    """Heads, and inside each the features of queries and keys, and those of values."""
    return log_factorial(heads) + 2 * heads * log_factorial(dim)


def vision_transformer() -> float:
    return log_factorial(768) + 12 * (log_factorial(3072) + attention(12, 64))


def swin() -> float:
    total = 0.0
    for dim, depth in zip((96, 192, 384, 768), (2, 2, 6, 2), strict=True):
        total += log_factorial(dim) + depth * (log_factorial(4 * dim) + attention(dim // 32, 32))
    return total


def maxvit() -> float:
    total = log_factorial(64, 64, 512)
    for dim, depth in zip((64, 128, 256, 512), (2, 2, 5, 2), strict=True):
        convolutions = log_factorial(4 * dim, dim // 4)
        transformers = 2 * (attention(dim // 32, 32) + log_factorial(4 * dim))
        total += log_factorial(dim) + depth * (convolutions + transformers)
    return total


@dataclass(frozen=True)
class Golden:
    name: str
    size: int
    log_order: Callable[..., float]
    blocks: int
    options: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return self.name


GOLDENS = [
    Golden("resnet18", 32, basic_resnet, 12),
    Golden("resnet50", 32, bottlenecks, 37),
    Golden("vgg11_bn", 32, lambda: log_factorial(64, 128, 256, 256, *[512] * 4, 4096, 4096), 10),
    Golden("densenet121", 32, densenet, 120),
    Golden("googlenet", 32, googlenet, 61, (("init_weights", False),)),
    Golden("shufflenet_v2_x0_5", 32, shufflenet, 80),
    Golden("resnext50_32x4d", 32, lambda: bottlenecks(32, 128), 1_045),
    Golden("mobilenet_v3_small", 32, mobilenet, 27),
    Golden("efficientnet_b0", 32, efficientnet, 40),
    Golden("convnext_tiny", 32, convnext, 22),
    Golden("swin_t", 64, swin, 304),
    Golden("vit_b_16", 32, vision_transformer, 313, (("image_size", 32),)),
    Golden("maxvit_t", 224, maxvit, 409),
]


@dataclass(frozen=True, eq=False)
class Analysed:
    golden: Golden
    model: nn.Module
    x: torch.Tensor
    symmetry: fr.Symmetry


@pytest.fixture(scope="module", params=GOLDENS, ids=str)
def analysed(request: pytest.FixtureRequest) -> Analysed:
    """Of the module: pytest runs all tests of one model before it makes the next one."""
    golden: Golden = request.param
    torch.manual_seed(0)
    model = torchvision.models.get_model(golden.name, weights=None, **dict(golden.options))
    x = torch.randn(1, 3, golden.size, golden.size)
    return Analysed(golden, model, x, fr.analyze(model, args=(x,)))


@pytest.mark.slow
def test_the_group_of_a_torchvision_model_is_the_one_worked_out_by_hand(
    analysed: Analysed,
) -> None:
    golden, model, symmetry = analysed.golden, analysed.model, analysed.symmetry
    takes_model = golden.log_order is googlenet
    expected = golden.log_order(model) if takes_model else golden.log_order()
    assert symmetry.log_order == pytest.approx(expected, abs=1e-3)
    assert symmetry.block_count == golden.blocks
    assert not symmetry.unknown_ops


@pytest.mark.slow
def test_a_random_permutation_leaves_a_torchvision_model_unchanged(analysed: Analysed) -> None:
    model = randomise(analysed.model)
    moved = fr.Permutation.random(analysed.symmetry, torch.Generator().manual_seed(0)).apply_to(
        model
    )
    x = analysed.x
    assert difference(evaluate(moved, (x,)), evaluate(model, (x,))) < 1e-10
