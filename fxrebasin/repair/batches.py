"""What data yields, as the arguments of a model.

>>> import torch
>>> data = Batches([(torch.zeros(4, 3), "labels"), {"x": torch.ones(2, 3)}])
>>> [(len(args), [*kwargs]) for args, kwargs in data.read(torch.device("cpu"))]
[(1, []), (0, ['x'])]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ..arguments import check_function, check_whole, refuse, spelled
from ..errors import InvalidArgumentError

Inputs = Callable[[Any], tuple[Any, ...]]
"""Makes positional arguments of a batch; ``tuple``, where a batch is all of them."""


@dataclass(frozen=True)
class Batches:
    """Data that is read once per pass."""

    data: Iterable[Any]
    limit: int | None = None
    inputs: Inputs | None = None

    def __post_init__(self) -> None:
        wrong = (str, bytes, Mapping, Tensor, nn.Module, type)
        if not hasattr(self.data, "__iter__") or isinstance(self.data, wrong):
            refuse("data", "batches of inputs, as a list or a DataLoader", self.data)
        if isinstance(self.data, Iterator):
            advice = "it is read several times, and an iterator or generator only once: give a list"
            refuse("data", "batches of inputs, as a list or a DataLoader", self.data, advice)
        if self.limit is not None:
            check_whole(self.limit, "batches", least=1)
        if self.inputs is not None and self.inputs is not tuple:
            check_function(self.inputs, "inputs", "one that makes a tuple of arguments of a batch")

    def read(self, device: torch.device) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
        """The arguments for each batch, with their tensors on a device.

        Raises:
            InvalidArgumentError: there is no batch, or one holds no tensor.
        """
        count = 0
        for batch in islice(self.data, self.limit):
            count += 1
            args, kwargs = tree_map(
                lambda x: x.to(device) if isinstance(x, Tensor) else x, self._arguments(batch)
            )
            yield args, kwargs
        if not count:
            raise InvalidArgumentError(
                "data: expected batches of inputs, found none; a generator can be read only once, "
                "a list or a DataLoader any number of times"
            )

    def _arguments(self, batch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if self.inputs is not None:
            args = self.inputs(batch)
            if not isinstance(args, tuple):
                refuse("inputs", "a function that returns a tuple of arguments", args)
            return args, {}
        if isinstance(batch, Mapping):
            for name in batch:
                if not isinstance(name, str):
                    refuse("data", "mappings from names of arguments", batch, f"{name!r} is none")
            return (), dict(batch)
        first = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
        if not isinstance(first, Tensor):
            begins = "" if first is batch else f" that begins with {spelled(first)}"
            raise InvalidArgumentError(
                "data: expected batches that are tensors, tuples or lists that begin with one, or "
                f"mappings of arguments, found {spelled(batch)}{begins}; give inputs=, a function "
                "that makes a tuple of arguments of a batch"
            )
        return (first,), {}
