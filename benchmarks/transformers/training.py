"""How the networks are trained, and on what they are measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from benchmarks.merging.fashion import Data, load_fashion
from benchmarks.merging.training import Recipe, trained
from benchmarks.transformers.networks import GPT, ViT, perceptron
from benchmarks.transformers.speeches import load_speeches


@dataclass(frozen=True)
class Setting:
    """Networks of one recipe, of which those of two seeds are merged at a time."""

    name: str
    recipe: Recipe
    load: Callable[[], Data]
    windows: int
    """How many of the training images, or windows of text, are trained on."""
    tested: int
    """On how many unseen ones figures are measured."""
    batch: int
    """Of what is learned after alignment."""
    pairs: tuple[tuple[int, int], ...] = ((0, 1), (2, 3), (0, 2))

    def network(self, seed: int) -> nn.Module:
        """The network of a seed, trained now or before."""
        return trained(self.recipe, self.load().train.first(self.windows), seed=seed)


def _perceptrons(activation: type[nn.Module], width: int) -> Setting:
    name = f"MLP, {activation.__name__.lower()}, {width} wide"
    build = partial(perceptron, activation, width)
    return Setting(name, Recipe(name, build, epochs=5), load_fashion, 60_000, 10_000, 128)


SETTINGS = (
    Setting(
        "ViT, Fashion-MNIST",
        Recipe("transformers: ViT", ViT, epochs=4, learning_rate=2e-3, batch=128),
        load_fashion,
        windows=60_000,
        tested=10_000,
        batch=128,
    ),
    Setting(
        "GPT, characters of speeches",
        Recipe("transformers: GPT", GPT, epochs=1, learning_rate=3e-3, batch=32),
        load_speeches,
        windows=70_400,
        tested=500,
        batch=32,
    ),
)
