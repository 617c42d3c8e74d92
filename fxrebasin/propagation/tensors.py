"""The layouts of all tensors of a run, and which stored tensors they come from."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..layouts.adoption import resolve
from ..layouts.coordinates import along, positional
from ..layouts.facts import Facts
from ..layouts.layout import Layout
from .identities import find_identities
from .shared_memory import find_shared
from .storages import Storages, has_storage, storage_of
from .stored import Stored


class Tensors:
    """Knows the layout of every tensor that depends on inputs or parameters; others are constants.

    Example inputs and the results of ops are ``put``; the tensors that the model stores are known
    from the beginning.
    """

    def __init__(
        self, facts: Facts, stored: Sequence[Stored], state: Sequence[torch.Tensor] = ()
    ) -> None:
        self.units = facts.units
        self.storages = Storages(facts.units)
        self._buffers = Storages(facts.units)
        """Those that hold no statistics of units: constants, but another state dict may hold
        others."""
        shared = find_shared(stored, facts.parameters)
        for one, parameter in zip(stored, facts.parameters, strict=True):
            layout = (shared.get(parameter.name) or parameter).layout()
            (self.storages if one.moves else self._buffers).put(one.tensor, layout)
        self._could_move = {one.names[0] for one in stored if one.could_move and not one.moves}
        self._from_inputs: set[int] = set()
        self._from_state: dict[int, frozenset[str]] = {}
        """Storages that were computed from what the model stores, whatever it is today, and the
        buffers among that which would move if the user said so."""
        for tensor in state:
            self._buffers.see(tensor)
            self._from_state[storage_of(tensor)] = frozenset()

    def put_input(self, tensor: torch.Tensor) -> None:
        """An example input: what its entries mean depends on where they are."""
        shape = tuple(tensor.shape)
        self.put(tensor, Layout(shape, tuple(positional(self.units, shape))))
        self._from_inputs.add(storage_of(tensor))

    def derive(
        self,
        results: Sequence[torch.Tensor],
        operands: Sequence[torch.Tensor],
        *,
        constants: bool = False,
    ) -> None:
        """Remember what results come from: inputs, or, if they are constants, what is stored.

        Results that have layouts are not judged by their values: whatever state they come from has
        met their units already.
        """
        storages = {storage_of(t) for t in operands}
        if not storages.isdisjoint(self._from_inputs):
            self._from_inputs.update(map(storage_of, results))
        if constants and any(map(self._is_state, operands)):
            names = self.buffers_in(operands)
            for tensor in results:
                self.storages.see(tensor)
                known = self._from_state.get(storage_of(tensor), frozenset())
                self._from_state[storage_of(tensor)] = known | names

    def buffers_in(self, operands: Sequence[torch.Tensor]) -> frozenset[str]:
        """The buffers which stay, and need not, that constants among these were computed from."""
        if not self._could_move:
            return frozenset()
        found: set[str] = set()
        for tensor in operands:
            if self.storages.get(tensor) is None:
                found |= self._from_state.get(storage_of(tensor), frozenset())
                buffer = self._buffers.get(tensor)
                if buffer is not None and buffer.parameter is not None:
                    found.add(buffer.parameter.name)
        return frozenset(found & self._could_move)

    def is_from_inputs(self, tensor: torch.Tensor) -> bool:
        return storage_of(tensor) in self._from_inputs

    def _is_state(self, tensor: torch.Tensor) -> bool:
        if storage_of(tensor) in self._from_state:
            return True
        return tensor.is_floating_point() and self._buffers.get(tensor) is not None

    def get(self, tensor: torch.Tensor) -> Layout | None:
        """The layout of a tensor, or None if it is a constant."""
        return self.storages.get(tensor)

    def put(self, tensor: torch.Tensor, layout: Layout) -> None:
        self.storages.put(tensor, layout)

    def layout_of(self, tensor: torch.Tensor) -> Layout:
        """The layout of a tensor.

        A constant has a coordinate along every axis on which its values differ. A buffer of
        floating point numbers has one along every axis, and so has whatever is computed from one:
        another state dict may hold other values. A constant that says of axes that they are one,
        as an identity matrix, has units on them that move together.
        """
        known = self.storages.get(tensor)
        if known is not None:
            return known
        shape = tuple(tensor.shape)
        buffer = self._buffers.get(tensor)
        if tensor.numel() == 0:
            return Layout(shape, value=tensor)
        weights = self._is_state(tensor)
        dims = tuple(
            d
            for d, n in enumerate(shape)
            if n > 1 and ((weights and _is_told_apart(tensor, d)) or not _is_uniform(tensor, d))
        )
        alike = [] if weights else find_identities(tensor, dims)
        fixed = tuple(d for d in dims if not any(d in group for group in alike))
        coordinates = positional(self.units, shape, fixed)
        for group in alike:
            ids = self.units.fresh(shape[group[0]])
            coordinates += [along(ids, d, len(shape)) for d in group]
        return Layout(
            shape, tuple(coordinates), value=tensor, buffer=buffer.parameter if buffer else None
        )

    def whole_of(self, tensor: torch.Tensor) -> Layout:
        """What the storage of a tensor holds, in the shape in which it was first seen."""
        return resolve(self.units, self.layout_of(self.storages.root(tensor)))


def _is_told_apart(tensor: torch.Tensor, dim: int) -> bool:
    """Has it entries of its own for every place along a dim?"""
    return not has_storage(tensor) or tensor.stride(dim) != 0


def _is_uniform(tensor: torch.Tensor, dim: int) -> bool:
    if not has_storage(tensor):
        return False
    if tensor.stride(dim) == 0:
        return True
    if tensor.is_meta:  # torch asks for shapes only, as forward derivatives do
        return False
    first = tensor.narrow(dim, 0, 1)
    return bool((tensor == first).all()) or bool(
        tensor.is_floating_point() and torch.isnan(tensor).all()
    )
