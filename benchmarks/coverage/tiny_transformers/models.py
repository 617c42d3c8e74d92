"""Transformers of every family, tiny and untrained, whose symmetry groups were worked out by hand.

Every architecture is registered with its inputs and the natural logarithm of the order of its
group: a formula in ``f``, which sums ``log n!`` over the sizes given. It is read off the
architecture, never off what the library finds. Widths are chosen so that one can tell them apart:
the residual stream has 24 features, a multilayer perceptron 40.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor, nn

Inputs = Callable[[int], dict[str, Tensor]]
D, MLP, LAYERS, HEADS, HEAD = 24, 40, 2, 4, 6
"""The residual stream, the hidden layer of a perceptron, blocks, heads, features of a head."""
VOCABULARY, LENGTH = 31, 7


@dataclass(frozen=True, eq=False)
class Architecture:
    """A transformer and its group."""

    name: str
    factory: Callable[[], nn.Module]
    inputs: Inputs
    """From a batch size to example inputs."""
    log_order: float
    inert: tuple[str, ...] = ()
    """How the names of parameters end that move, but need not."""


ARCHITECTURES: dict[str, Architecture] = {}


class Outputs(nn.Module):
    """A model with only some of its outputs: what is returned besides them would be pinned."""

    def __init__(self, model: nn.Module, *names: str) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, **inputs: Tensor) -> tuple[Tensor, ...]:
        outputs = self.model(**inputs)
        return tuple(outputs[name] for name in self.names)


def architecture(
    inputs: Inputs, log_order: float, *, inert: tuple[str, ...] = ()
) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Register a function that makes a model."""

    def register(factory: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        name = factory.__name__
        assert name not in ARCHITECTURES, name
        ARCHITECTURES[name] = Architecture(name, factory, inputs, log_order, inert)
        return factory

    return register


def f(*sizes: int) -> float:
    """The logarithm of the product of ``n!`` over the sizes."""
    return math.fsum(math.lgamma(n + 1) for n in sizes)


def attention(heads: int = HEADS, queries: int = HEAD, values: int | None = None) -> float:
    """Heads; inside each, the features that queries and keys share, and those of the values."""
    return f(heads) + heads * f(queries, queries if values is None else values)


def grouped(groups: int, repeats: int, values: int, queries: int = 1) -> float:
    """Heads of keys and values that serve several query heads each.

    ``queries`` counts the features of a query that may move: with rotary positions, those that
    are not rotated.
    """
    return f(groups) + groups * f(repeats, values, queries)


def tokens(batch: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (batch, LENGTH)
    return {"input_ids": torch.randint(3, VOCABULARY, shape, generator=generator)}


def causal(model: str, **options: Any) -> nn.Module:
    """``<model>ForCausalLM`` of a configuration with the usual names."""
    config = getattr(transformers, f"{model}Config")
    shared: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": D,
        "intermediate_size": MLP,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32,
        "tie_word_embeddings": False,
        "use_cache": False,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    built: nn.Module = getattr(transformers, f"{model}ForCausalLM")(config(**{**shared, **options}))
    return built


def masked(model: str, **options: Any) -> nn.Module:
    """``<model>ForMaskedLM`` of a configuration with the usual names."""
    config = getattr(transformers, f"{model}Config")
    shared: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": D,
        "intermediate_size": MLP,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": 32,
        "pad_token_id": 0,
    }
    built: nn.Module = getattr(transformers, f"{model}ForMaskedLM")(config(**{**shared, **options}))
    return built


ENCODER = LAYERS * (attention() + f(MLP))
"""Blocks of a classic transformer: heads with features inside, and a perceptron."""

ROTARY = LAYERS * (grouped(2, 3, values=4) + f(MLP))
"""Rotated features of queries and keys stay; two groups of three heads, four features each."""
