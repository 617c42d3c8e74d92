"""Batches of data as the arguments of a model's forward."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InvalidArgumentError

Inputs = Callable[[Any], tuple[Any, ...]]


def feed(model: nn.Module, batch: Any, inputs: Inputs | None = None) -> Any:
    """Call a model on a batch, whose tensors are brought to where the model is.

    Args:
        model: is called.
        batch: a tensor, a tuple or list whose first entry is the input tensor (the rest, such as
            labels, is ignored), or a mapping from names of arguments to values.
        inputs: turns a batch of any other kind into a tuple of positional arguments.

    Raises:
        InvalidArgumentError: the batch is none of these.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))

    def placed(value: Any) -> Any:
        return value.to(device) if isinstance(value, Tensor) else value

    if inputs is not None:
        given = inputs(batch)
        if not isinstance(given, tuple):
            raise InvalidArgumentError(
                f"inputs: expected a function that returns a tuple of arguments, found one that "
                f"returns {type(given).__name__}; give lambda batch: (batch['x'],)"
            )
        return model(*map(placed, given))
    if isinstance(batch, Mapping):
        return model(**{name: placed(value) for name, value in batch.items()})
    first = batch[0] if isinstance(batch, tuple | list) and batch else batch
    if not isinstance(first, Tensor):
        raise InvalidArgumentError(
            "data: expected batches that are tensors, tuples or lists that begin with one, or "
            f"mappings, found {type(batch).__name__}; give inputs=, which makes arguments of them"
        )
    return model(placed(first))
