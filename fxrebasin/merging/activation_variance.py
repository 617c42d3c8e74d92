"""How much the units of every layer vary over some data, under any weights.

Averaging two networks whose units are not alike averages activations that are not correlated, so
that they vary less from layer to layer: variance collapse.

Source: Jordan et al., "REPAIR: REnormalizing Permuted Activations for Interpolation Repair", ICLR
2023.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from ..errors import InvalidArgumentError
from ..models.copying import deep_copy, set_modes
from ..models.randomness import keeping_random_state
from .feeding import Inputs, feed
from .tensors import tensors_of

UNITS_SECOND = (_ConvNd, _NormBase, nn.GroupNorm)
"""Layers whose units are on the second axis of what they return; others have them on the last."""


class Variances:
    """Measures, per layer with parameters of its own, the mean of its units' variances.

    >>> layer = nn.Sequential(nn.Linear(1, 2, bias=False))
    >>> _ = nn.init.ones_(layer[0].weight)
    >>> data = [torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0]])]
    >>> measured = Variances(layer, data).under(layer.state_dict().get)
    >>> {name: round(variance, 3) for name, variance in measured.items()}
    {'0': 0.667}

    Args:
        model: of which one copy is run, in evaluation mode.
        data: batches, iterated once per call of :meth:`under`.
        batches: how many of them; None is all.
        inputs: what makes arguments of a batch; see :func:`fxrebasin.merging.feeding.feed`.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Iterable[Any],
        *,
        batches: int | None = None,
        inputs: Inputs | None = None,
    ) -> None:
        self.model = deep_copy(model)
        set_modes(self.model, False)
        self.slots = tensors_of(self.model)
        self.data, self.batches, self.inputs = data, batches, inputs

    def under(self, weights: Callable[[str], Tensor | None]) -> dict[str, float]:
        """The variances under weights that are given by name.

        Over all examples and positions, of every unit; the mean of a layer's units. Layers that
        return something else than a tensor, or are not called, are left out.

        Raises:
            InvalidArgumentError: there are no batches, or they are no inputs.
        """
        with torch.no_grad(), keeping_random_state(self.model, always=True):
            for name, slot in self.slots.items():
                value = weights(name)
                assert value is not None
                slot.copy_(value)
            found: dict[str, _Moments] = {}
            count = 0
            with _watching(self.model, found):
                for batch in islice(self.data, self.batches):
                    feed(self.model, batch, self.inputs)
                    count += 1
        if not count:
            raise InvalidArgumentError("data: expected batches, found none; give a list of them")
        return {name: moments.variance for name, moments in found.items()}


@contextmanager
def _watching(model: nn.Module, found: dict[str, _Moments]) -> Iterator[None]:
    """Have the layers of a model add what they return to their moments."""
    handles = []
    for name, module in model.named_modules():
        if next(module.parameters(recurse=False), None) is not None:

            def add(module: nn.Module, args: Any, value: Any, name: str = name) -> None:
                if isinstance(value, Tensor) and value.is_floating_point():
                    axis = 1 if isinstance(module, UNITS_SECOND) and value.ndim > 1 else -1
                    found.setdefault(name, _Moments()).add(value.movedim(axis, -1))

            handles.append(module.register_forward_hook(add))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Moments:
    """Number, mean and sum of squared deviations of every unit, batch after batch.

    Source: T. Chan, G. Golub and R. LeVeque, "Updating Formulae and a Pairwise Algorithm for
    Computing Sample Variances", 1979.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0

    def add(self, value: Tensor) -> None:
        """Add examples and positions; units are on the last axis."""
        rows = value.detach().reshape(-1, value.shape[-1]).to(torch.float64)
        if not len(rows):
            return
        mean = rows.mean(0)
        total = self.count + len(rows)
        apart = mean - self.mean
        self.squares = (
            self.squares
            + (rows - mean).square().sum(0)
            + apart.square() * (self.count * len(rows) / total)
        )
        self.mean = self.mean + apart * (len(rows) / total)
        self.count = total

    @property
    def variance(self) -> float:
        """Of the units' values, the mean over units."""
        return float(torch.as_tensor(self.squares).mean() / max(self.count, 1))
