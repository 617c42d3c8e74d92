"""The loss of a model on a batch, as what learns from batches calls it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from ..arguments import refuse
from ..errors import InvalidArgumentError

Loss = Callable[[nn.Module, Any], Tensor]
"""Takes a model and a batch, and returns a tensor with one entry."""


class WithLoss(nn.Module):
    """A module that returns the loss of a model, so that it can be called with other weights."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self, batch: Any) -> Tensor:
        return self.loss(self.model, batch)

    def under(self, weights: Mapping[str, Tensor], batch: Any, *, where: str) -> Tensor:
        """The loss of the model with other weights than its own, which it is a function of.

        Args:
            weights: by the names that the model has for them.
            batch: what is handed on to the loss.
            where: at which step, as errors call it.

        Raises:
            InvalidArgumentError: it is not a finite number that depends on the weights.
        """
        named = {f"model.{name}": tensor for name, tensor in weights.items()}
        value = functional_call(self, named, (batch,))
        expected = "a function that returns a tensor with one entry, which wants a gradient"
        if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
            refuse("loss", expected, value)
        if not math.isfinite(value.item()):
            raise InvalidArgumentError(
                f"loss: expected a finite number, found {value.item()} at {where}; learn with a "
                "lower learning rate"
            )
        return value.reshape(())


def again_and_again(data: Iterable[Any]) -> Iterator[Any]:
    """Batch after batch, from the beginning whenever they end.

    Raises:
        InvalidArgumentError: there are none.
    """
    while True:
        empty = True
        for batch in data:
            empty = False
            yield batch
        if empty:
            raise InvalidArgumentError("data: expected batches, found none; give a list of them")
