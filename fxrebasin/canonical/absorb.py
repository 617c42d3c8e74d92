"""The weights of norms that are absorbed by what reads them, and so become one.

A norm multiplies every unit by a weight, and what reads it could multiply by that as well. Once it
does, the norm commutes with rotations. Which weights can be absorbed, and by what, is known from
the kinds of a symmetry (:class:`~fxrebasin.symmetry.kinds.Absorption`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import torch

from ..errors import InvalidParameterError
from ..symmetry.group import Symmetry
from ..symmetry.parts import ParameterSymmetry
from .held import Held, places, widen


class _Reader(NamedTuple):
    """What is multiplied by powers of the weights of a norm, a power for each copy."""

    norm: str
    held: Held
    vector: torch.Tensor
    powers: tuple[int, ...]


class Absorbing:
    """Absorbs the weights of norms of one state, tensor by tensor."""

    def __init__(
        self,
        symmetry: Symmetry,
        state: Mapping[str, torch.Tensor],
        only: Collection[str] | None = None,
    ) -> None:
        """Read the weights of norms from a state, which has every parameter by its first name; of
        some blocks, or of all."""
        held = dict(places(symmetry))
        self._readers: dict[str, list[_Reader]] = {}
        absorptions = [a for a in symmetry.kinds.absorptions if only is None or a.block in only]
        self._vectors = {a.vector for a in absorptions}
        units = {one.parameter.name: one for one in held.values()}
        for absorption in absorptions:
            vector = units[absorption.vector].take(widen(state[absorption.vector])).reshape(-1)
            for place, powers in absorption.readers.items():
                self._readers.setdefault(place[0], []).append(
                    _Reader(absorption.vector, held[place], vector, powers)
                )

    def changes(self, parameter: ParameterSymmetry) -> bool:
        return parameter.name in self._vectors or parameter.name in self._readers

    def absorb(self, parameter: ParameterSymmetry, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor of the state, in float64, as it is when the weights of norms are one.

        Raises:
            InvalidParameterError: a weight is zero, and what is to be divided by it is not.
        """
        if parameter.name in self._vectors:
            return torch.ones_like(tensor)
        for name, held, vector, powers in self._readers.get(parameter.name, ()):
            units = held.take(tensor)
            by = torch.stack([vector**power for power in powers], dim=1).to(tensor.device)
            by = by[None, :, None, :, None]
            divided = by.isinf() & (units != 0)
            if divided.any():
                unit = int(divided.any(dim=(0, 2, 3, 4)).nonzero()[0])
                raise InvalidParameterError(
                    f"{name!r} cannot be absorbed: expected no zero where {parameter.name!r} has "
                    f"none, found one at unit {unit} of {held.block.name!r}; align with "
                    "group='signed', which needs no norm absorbed"
                )
            tensor = held.put(tensor, units * by.where(by.isfinite(), 0.0))
        return tensor
