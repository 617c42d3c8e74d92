"""Means over units that no one reads, taken away.

Where nothing but layer norms read a stream, they take its mean away themselves. What is written
there may then have any mean, which means nothing, and counts when weights are compared. Where that
is so stands in :attr:`~fxrebasin.symmetry.kinds.Kinds.centred`.
"""

from __future__ import annotations

from collections.abc import Collection

import torch

from ..symmetry.group import Symmetry
from ..symmetry.parts import ParameterSymmetry
from .held import Held, places


class Centring:
    """Takes means away, tensor by tensor."""

    def __init__(self, symmetry: Symmetry, only: Collection[str] | None = None) -> None:
        """Of some blocks, or of all."""
        centred = set(symmetry.kinds.centred)
        self._held: dict[str, list[Held]] = {}
        for place, held in places(symmetry):
            if place in centred and (only is None or held.block.name in only):
                self._held.setdefault(place[0], []).append(held)

    def changes(self, parameter: ParameterSymmetry) -> bool:
        return parameter.name in self._held

    def centre(self, parameter: ParameterSymmetry, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor whose means are zero where nothing reads them."""
        for held in self._held.get(parameter.name, ()):
            units = held.take(tensor)
            tensor = held.put(tensor, units - units.mean(dim=1, keepdim=True))
        return tensor
