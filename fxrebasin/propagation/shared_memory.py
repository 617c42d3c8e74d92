"""Stored tensors that are the same memory in another shape, as a weight and its transpose.

``decoder.weight.data = encoder.weight.data.T`` makes two parameters of one. Which of them an op has
met cannot be told from memory, so the second is a view of the first, and moves as that does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..layouts.facts import Facts
from ..layouts.ids import Ids
from ..layouts.layout import Layout, Parameter
from .storages import axis_indices, entry_indices, gather, place_of
from .stored import Stored


@dataclass(frozen=True)
class Shared:
    """That a stored tensor is a view of another."""

    parameter: Parameter
    owner: Parameter
    index: list[Ids]
    """Per axis of the owner, the position that each entry has on it."""

    def layout(self) -> Layout:
        """What the owner is, seen through this view; without units while that has none."""
        seen = gather(self.owner.layout(), self.index, self.parameter.shape)
        return replace(seen, parameter=self.owner)


def find_shared(stored: Sequence[Stored], parameters: Sequence[Parameter]) -> dict[str, Shared]:
    """By name, the stored tensors that hold just the entries of another: of the first of those
    with the most axes."""
    alike: dict[tuple[int, int], list[tuple[Stored, Parameter]]] = {}
    for one, parameter in zip(stored, parameters, strict=True):
        size = one.tensor.numel()
        if size > 1 and (one.is_statistic or not one.is_buffer):
            key = one.tensor.untyped_storage()._cdata, size
            alike.setdefault(key, []).append((one, parameter))
    found: dict[str, Shared] = {}
    for same in alike.values():
        first, owner = max(same, key=lambda pair: len(pair[1].shape))
        for one, parameter in same:
            places = place_of(first.tensor), place_of(one.tensor)
            index = axis_indices(*places) or entry_indices(*places)
            is_view = index is not None and 0 not in (*first.tensor.stride(), *one.tensor.stride())
            if is_view and parameter is not owner:
                found[parameter.name] = Shared(parameter, owner, index or [])
    return found


def complete_shared(found: Facts, shared: Sequence[Shared]) -> None:
    """Give views the units of what they are views of."""
    for one in shared:
        whole = Layout(one.owner.shape, tuple(one.owner.named()))
        one.parameter.coordinates[:] = gather(whole, one.index, one.parameter.shape).coordinates
        if one.owner.name in found.touched:
            found.touched.add(one.parameter.name)
