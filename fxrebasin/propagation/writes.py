"""What ops that work in place do: to layouts, and to what the model stores.

A write goes through one view of a storage and changes what all others hold. And what a model's
forward writes to its own parameters and buffers has to be undone after the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from ..layouts.causes import PinKind
from ..layouts.coordinates import positional
from ..layouts.layout import Layout, Parameter
from ..layouts.primitives import pin_units
from .storages import storage_of
from .stored import Stored
from .tensors import Tensors


class Writes:
    """Follows writes in the layouts of tensors, and undoes those to stored tensors."""

    def __init__(self, tensors: Tensors, stored: Sequence[Stored]) -> None:
        self._tensors = tensors
        self._stored: dict[int, list[torch.Tensor]] = {}
        self._values: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        for one in stored:
            self._stored.setdefault(storage_of(one.tensor), []).append(one.tensor)
            if one.is_buffer:  # batch norm writes to its statistics without saying so
                self._keep(one.tensor)

    def is_stored(self, tensor: torch.Tensor) -> bool:
        """Is it a parameter or buffer of the model, and not what forward has put in its place?"""
        return any(tensor is one for one in self._stored.get(storage_of(tensor), ()))

    def keep_values(self, written: torch.Tensor) -> None:
        """Remember what the stored tensors that share a storage held before it is written to."""
        for tensor in self._stored.get(storage_of(written), ()):
            self._keep(tensor)

    def _keep(self, tensor: torch.Tensor) -> None:
        if id(tensor) not in self._values:
            self._values[id(tensor)] = (tensor.detach(), tensor.detach().clone())

    def undo(self) -> None:
        """Give all stored tensors the values back that they had."""
        for tensor, value in self._values.values():
            tensor.copy_(value)

    def follow(
        self,
        written: torch.Tensor,
        before: Layout,
        layout: Layout,
        op: str,
        touched: Iterable[Parameter],
    ) -> None:
        """Record that an op wrote to a tensor; what cannot be followed is pinned.

        Args:
            written: where it wrote; a view, or a whole storage.
            before: what the whole storage held, in the shape in which it was first seen.
            layout: what is there now.
            op: its name.
            touched: the parameters that it met.
        """
        units, storages = self._tensors.units, self._tensors.storages
        if storages.write(written, layout, before):
            self._pin_unused(written, before, touched)
            return
        for x in (before, layout):
            text = f"{op} writes where it cannot be followed"
            pin_units(units, x, text, kind=PinKind.UNFOLLOWED, op=op)
        root = storages.root(written)
        whole = tuple(root.shape)
        storages.put(root, Layout(whole, tuple(positional(units, whole))))

    def follow_unknown(
        self,
        written: torch.Tensor,
        before: Layout,
        operands: Iterable[Layout],
        op: str,
        touched: Iterable[Parameter],
    ) -> None:
        """The same for what an op writes to a tensor that it does not return: no rule says what."""
        units, shape = self._tensors.units, tuple(written.shape)
        for x in operands:
            text = f"{op} writes what it makes of it to another tensor"
            pin_units(units, x, text, kind=PinKind.UNFOLLOWED, op=op)
        layout = Layout(shape, tuple(positional(units, shape)))
        self.follow(written, before, layout, op, touched)

    def _pin_unused(
        self, written: torch.Tensor, before: Layout, touched: Iterable[Parameter]
    ) -> None:
        """Entries of a parameter's copy that are overwritten before anything read them have no
        effect; their units stay in place."""
        units, storages = self._tensors.units, self._tensors.storages
        own = {int(ids[0]) for p in touched for ids in p.positions}
        overwritten = [ids for c in before.coordinates if int((ids := np.unique(c))[0]) in own]
        if not overwritten and storage_of(written) not in self._stored:
            return
        now = storages.get(storages.root(written))
        coordinates = () if now is None else now.coordinates
        left = np.concatenate(
            [np.empty(0, np.int64), *(units.find(c).ravel() for c in coordinates)]
        )
        for ids in overwritten:
            gone = ids[~np.isin(units.find(ids), left)]
            units.pin(gone, "is overwritten before it is used", PinKind.UNUSED)
