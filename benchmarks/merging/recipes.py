"""How the networks of every study are trained."""

from __future__ import annotations

from functools import partial

from benchmarks.merging.networks import FAMILIES, deep_mlp, mlp, resnet
from benchmarks.merging.training import Recipe

SUBSET = 12_000
"""Training images of the ResNets and deep MLPs, which would take long on all of them."""
SMALL_SUBSET = 4_000
"""Those of the small convolutional networks, of which there are many."""
WIDTHS = (1, 2, 3, 4)
"""Of the small convolutional networks."""

MLP = Recipe("MLP, 3 x 512", partial(mlp, 784, 512, 512, 512, 10), epochs=6)
RESNET = Recipe("ResNet-8, width 2", partial(resnet, 2), epochs=4, learning_rate=5e-3, batch=128)
DEEP_MLP = Recipe(
    "MLP, 15 x 128",
    partial(deep_mlp, 196, *(128,) * 15, 10),
    epochs=15,
    batch=128,
    warm_up=0.2,
)


def small(family: str, width: int) -> Recipe:
    """One of the small convolutional networks."""
    build = partial(FAMILIES[family], width)
    name = f"{family}, width {width}"
    return Recipe(name, build, epochs=5, learning_rate=4e-3, batch=64)
