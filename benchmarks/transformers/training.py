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
    watched: int
    """On how many training images, or windows, activations are compared."""
    batch: int
    """Of what is learned after alignment."""

    def network(self, seed: int) -> nn.Module:
        """The network of a seed, trained now or before."""
        return trained(self.recipe, self.load().train.first(self.windows), seed=seed)


PAIRS = ((0, 1), (0, 2), (1, 2))
"""Seeds of the networks that are aligned: all pairs of three networks."""


def _perceptrons(activation: type[nn.Module], width: int) -> Setting:
    recipe = Recipe(
        f"transformers: {activation.__name__} {width}",
        partial(perceptron, activation, width),
        epochs=5,
    )
    name = f"MLP of {activation.__name__}, {width} wide"
    return Setting(name, recipe, load_fashion, 60_000, tested=2_000, watched=1_000, batch=128)


TRANSFORMERS = (
    Setting(
        "ViT, Fashion-MNIST",
        Recipe("transformers: ViT", ViT, epochs=4, learning_rate=2e-3, batch=128),
        load_fashion,
        windows=60_000,
        tested=1_000,
        watched=500,
        batch=128,
    ),
    Setting(
        "GPT, characters of speeches",
        Recipe("transformers: GPT", GPT, epochs=1, learning_rate=3e-3, batch=32),
        load_speeches,
        windows=32_000,
        tested=160,
        watched=64,
        batch=32,
    ),
)
"""What can be rotated."""

PERCEPTRONS = (
    _perceptrons(nn.Tanh, 32),
    _perceptrons(nn.Tanh, 256),
    _perceptrons(nn.ReLU, 256),
)
"""What can change signs, and what can only be permuted and scaled."""
