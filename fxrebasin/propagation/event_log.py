"""Which value each tensor holds, and the log of what ops have made of them.

A value is what lies at one place of a storage until something else is written there. A write
through one view changes what others show. What they show then is a value of which nothing is known,
and with it nothing of what it may be made of, all that the storage has held; unless they are parts
of a tensor that was split, of which the written one is another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils._pytree import tree_map_only

from ..layouts.events import CONSTANT, Event, Value, unfollowed
from ..layouts.facts import Facts
from ..layouts.layout import Layout
from .storages import Place, has_storage, place_of, storage_of
from .stored import Stored

SPLITS = frozenset(
    f"aten::{name}"
    for name in ("split", "split_with_sizes", "unbind", "unsafe_split", "unsafe_split_with_sizes")
)
"""Ops whose results share memory with their operand, and none with one another."""


@dataclass(frozen=True)
class _Held:
    value: Value
    part_of: int = 0
    """Which splitting made it, if one did."""


class EventLog:
    """Writes events down in the facts of a run."""

    def __init__(self, facts: Facts, stored: Sequence[Stored]) -> None:
        self._facts = facts
        self._held: dict[int, dict[Place, _Held]] = {}
        self._hidden: dict[int, list[Value]] = {}
        """Per storage, what it has held at places that a write through another has changed."""
        self._splits = 0
        for number, one in enumerate(stored):
            if has_storage(one.tensor):
                held = self._held.setdefault(storage_of(one.tensor), {})
                value = Value(number, facts.parameters[number].layout())
                held[place_of(one.tensor)] = _Held(value)

    def operands(
        self, tensors: Sequence[torch.Tensor], layouts: Sequence[Layout]
    ) -> tuple[Value, ...]:
        """The values that an op is given, before it runs."""
        return tuple(self._value(t, x) for t, x in zip(tensors, layouts, strict=True))

    def _value(self, tensor: torch.Tensor, layout: Layout) -> Value:
        if layout.value is not None:
            plain = replace(layout, value=None, origin=None)
            return Value(CONSTANT, plain, _is_zero(tensor))
        if not has_storage(tensor):
            return self._unknown(layout, [])
        held = self._held.setdefault(storage_of(tensor), {})
        found = held.get(place_of(tensor))
        if found is not None:
            return Value(found.value.number, layout)
        if held:
            hidden = self._hidden.get(storage_of(tensor), [])
            value = self._unknown(layout, [*hidden, *(h.value for h in held.values())])
        else:
            value = Value(self._facts.new_number(), layout)
        held[place_of(tensor)] = _Held(value)
        return value

    def _unknown(self, layout: Layout, made_of: Sequence[Value]) -> Value:
        value = Value(self._facts.new_number(), layout)
        self._facts.events.append(unfollowed(self._facts.units.site, (value, *made_of)))
        return value

    def record(
        self,
        op: str,
        arguments: tuple[Any, Mapping[str, Any]],
        operands: tuple[Value, ...],
        results: Sequence[tuple[torch.Tensor, Layout]],
        written: Sequence[torch.Tensor] = (),
        *,
        claim: str = "",
    ) -> None:
        """Write down what an op has done.

        Args:
            op: its name; empty where nothing is known of it.
            arguments: those that it was given, with layouts in the place of tensors.
            operands: the values of these, in order.
            results: what it has returned.
            written: the tensors that it has written to.
            claim: what a rule of the user's own says of it.
        """
        returned = {id(tensor) for tensor, _ in results}
        if any(id(tensor) not in returned for tensor in written):
            op = ""
        if op in SPLITS:
            self._splits += 1
        part_of = self._splits if op in SPLITS else 0
        is_written = {id(tensor) for tensor in written}
        made = tuple(self._made(t, x, id(t) in is_written, part_of) for t, x in results)
        if not op:
            self._facts.events.append(unfollowed(self._facts.units.site, (*operands, *made)))
            return
        args, kwargs = operands, {}
        if not claim:
            left = iter(operands)
            args, kwargs = tree_map_only(Layout, lambda _: next(left), arguments)
        exact = all(t.is_floating_point() for t, _ in results[:1])
        site = self._facts.units.site
        self._facts.events.append(
            Event(op, site, tuple(args), kwargs, operands, made, exact, claim)
        )

    def read(self, tensors: Sequence[tuple[torch.Tensor, Layout]]) -> None:
        """Tensors leave the model: what becomes of them is not known."""
        values = self.operands([t for t, _ in tensors], [x for _, x in tensors])
        self._facts.events.append(unfollowed(self._facts.units.site, values))

    def _made(self, tensor: torch.Tensor, layout: Layout, written: bool, part_of: int) -> Value:
        value = Value(self._facts.new_number(), replace(layout, value=None, origin=None))
        if has_storage(tensor):
            held = self._held.setdefault(storage_of(tensor), {})
            place = place_of(tensor)
            if written:
                before = held.get(place)
                part_of = before.part_of if before else 0
                kept = {p: h for p, h in held.items() if part_of and h.part_of == part_of}
                hidden = [h.value for p, h in held.items() if p not in kept and p != place]
                self._hidden.setdefault(storage_of(tensor), []).extend(hidden)
                held.clear()
                held.update(kept)
            held[place] = _Held(value, part_of)
        return value


def _is_zero(tensor: torch.Tensor) -> bool:
    if tensor.is_meta or not has_storage(tensor):
        return False
    return not bool(tensor.any())
