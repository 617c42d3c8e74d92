"""All that the ops of a run say of the frames on all values."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from ..layouts.events import CONSTANT, Event, Value
from ..layouts.facts import Facts
from ..refinement.build import Refinement
from .frames import Frames
from .norms import Ledger
from .places import Part, Places
from .scene import Frame, Scene
from .statements import squares, state
from .translations import Translations


@dataclass
class Statements:
    """All that ops have said, with some vectors taken as one."""

    frames: Frames
    ledger: Ledger
    of_value: dict[int, dict[str, list[Frame]]]
    """Per number of a value and block, the frames there."""
    said: set[int]
    """The frames that an op has met."""
    broken: set[str]
    """The blocks that lie on a value in a way that no matrix acts along."""
    translations: Translations = field(default_factory=Translations)
    """Where a number added to all units of a block goes."""


class Log:
    """The events of a run, and the frames on their values."""

    def __init__(self, facts: Facts, refinement: Refinement) -> None:
        self._facts = facts
        self._names = refinement.names
        self._places = Places(facts.units, refinement.classes, refinement.names)
        self._events, self._used = _find_used(facts.events)
        self._parts: dict[int, list[Part]] = {}
        for number, parameter in enumerate(facts.parameters):
            self._parts[number] = self._places.parts_of(parameter.named())
        for event in self._events:
            for value in (*event.operands, *event.results):
                if value.number not in self._parts and value.number in self._used:
                    self._parts[value.number] = self._places.parts(value.layout)

    def statements(self, absorbed: Collection[int]) -> Statements:
        """What all ops say if some vectors are one."""
        made = Statements(Frames(), Ledger(absorbed), {}, set(), set())
        for event in self._events:
            self._state(event, made)
        self._check_variances(made)
        return made

    def frames_on(self, number: int, made: Statements) -> dict[str, list[Frame]]:
        found = made.of_value.get(number)
        if found is None:
            found = made.of_value[number] = {}
            for part in self._parts.get(number, ()):
                name = self._names[part.block]
                if part.is_whole and part.varies_on():
                    on = frozenset(part.varies_on())
                    frame = Frame(made.frames.new(name), part.block.size, part.places, on)
                    found.setdefault(name, []).append(frame)
                else:
                    made.broken.add(name)
        return found

    def _state(self, event: Event, made: Statements) -> None:
        values = {v.number: v for v in (*event.operands, *event.results)}
        for number in list(values):
            squared = made.ledger.squares.get(number)
            for v in squared.operands if squared else ():
                values.setdefault(v.number, v)
        on = {n: self.frames_on(n, made) for n in values if n != CONSTANT}
        on[CONSTANT] = self._on_constants(event, made)
        for block in dict.fromkeys(name for found in on.values() for name in found):
            frames = {number: found[block] for number, found in on.items() if block in found}
            op = event.op.removeprefix("aten::") or "what is not followed"
            scene = Scene(made.frames, block, op, event.node, frames)
            state(scene, event, made.ledger)
            made.said |= scene.spoken
            made.translations.note(scene, event, self._used)
        if squares(event):
            made.ledger.squares[event.results[0].number] = event

    def _on_constants(self, event: Event, made: Statements) -> dict[str, list[Frame]]:
        """A constant with units is what it is; which matrices keep that is not asked."""
        for value in event.operands:
            if value.number == CONSTANT and value.layout.coordinates:
                for part in self._places.parts(value.layout):
                    made.broken.add(self._names[part.block])
        return {}

    def _check_variances(self, made: Statements) -> None:
        """What is added to a variance has to be known, for it scales together with that."""
        for number, added in made.ledger.variances.items():
            times = [v for e in self._events for v in e.operands if v.number == number]
            is_stored = number < len(self._facts.parameters)
            batch_norms = [e for e in self._events if _is_variance(e, number)]
            if not is_stored or len(added) > 1 or len(times) > len(batch_norms):
                for frames in made.of_value.get(number, {}).values():
                    for frame in frames:
                        made.frames.fix_scale(frame.number)


def _is_variance(event: Event, number: int) -> bool:
    return (
        "batch_norm" in event.op
        and isinstance(event.args[4], Value)
        and event.args[4].number == number
    )


def _find_used(events: Sequence[Event]) -> tuple[list[Event], set[int]]:
    """The events that the model's outputs come from, and the numbers of the values in these."""
    used: set[int] = set()
    kept = []
    for event in reversed(events):
        if not event.results or any(v.number in used for v in event.results):
            used |= {v.number for v in event.operands}
            kept.append(event)
    return kept[::-1], used
