"""How much the units of every layer vary over some data, under any weights.

Averaging two networks whose units are not alike averages activations that are not correlated, so
that they vary less from layer to layer: variance collapse.

Source: Jordan et al., "REPAIR: REnormalizing Permuted Activations for Interpolation Repair", ICLR
2023.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from ..models.copying import deep_copy, set_modes
from ..models.randomness import keeping_random_state
from ..repair.batches import Batches, Inputs
from ..repair.moments import Moments
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
        inputs: what makes arguments of a batch; see :class:`fxrebasin.repair.batches.Batches`.
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
        self.device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self.batches = Batches(data, batches, inputs)

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
            found: dict[str, Moments] = {}
            with _watching(self.model, found):
                for args, kwargs in self.batches.read(self.device):
                    self.model(*args, **kwargs)
        return {name: float(m.std.square().mean()) for name, m in found.items()}


@contextmanager
def _watching(model: nn.Module, found: dict[str, Moments]) -> Iterator[None]:
    """Have the layers of a model add what they return to their moments."""
    handles = []
    for name, module in model.named_modules():
        if next(module.parameters(recurse=False), None) is not None:

            def add(module: nn.Module, args: Any, value: Any, name: str = name) -> None:
                if isinstance(value, Tensor) and value.is_floating_point() and value.ndim:
                    axis = 1 if isinstance(module, UNITS_SECOND) and value.ndim > 1 else -1
                    rows = value if value.ndim > 1 else value[None]
                    found.setdefault(name, Moments(rows.shape[axis])).update(rows, axis)

            handles.append(module.register_forward_hook(add))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
