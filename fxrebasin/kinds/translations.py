"""Where a number that is added to all units of a block goes.

Layer norm takes it away again. So what is written to a stream that nothing but layer norms read may
have any mean over units, and another for every row of a weight: those means are no matter of the
function, and can be taken away. Linear ops pass them on to their results. What a bias of a layer
norm adds comes after the norm, and is followed from there.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from math import prod

from ..layouts.events import Event
from ..rules.acts import ACTS, Act
from .scene import Frame, Scene

LINEAR = {
    Act.ADDITION,
    Act.ATTENTION,
    Act.CONTRACTION,
    Act.CONVOLUTION,
    Act.LAYER_NORM,
    Act.LOOK_UP,
    Act.MOVEMENT,
    Act.POOLING,
    Act.PRODUCT,
    Act.QUOTIENT,
    Act.SUM,
    Act.UNION,
}
"""Families that pass a number added along a frame on to the frames that they tie it to; layer norm
its bias."""


@dataclass
class Translations:
    """Per frame, which others are translated with it, and which frames are read as they are."""

    passed: dict[int, set[int]] = field(default_factory=dict)
    read: set[int] = field(default_factory=set)

    def note(self, scene: Scene, event: Event, used: Collection[int]) -> None:
        """What an op does with numbers added along the frames of one block on its operands."""
        results = {f.number for value in event.results for f in scene.on(value)}
        act = ACTS.get(event.op)
        for value in {v.number: v for v in event.operands}.values():
            is_normed = act is Act.LAYER_NORM and value.number == event.args[0].number
            for frame in scene.on(value):
                tied = _tied_to(scene, frame.number)
                if is_normed:
                    goes_on = _is_taken_away(event, frame, used)
                    tied = []
                else:
                    goes_on = act in LINEAR and bool(tied or act is Act.MOVEMENT)
                if goes_on and all(n in results and parity > 0 for n, parity in tied):
                    self.passed.setdefault(frame.number, set()).update(n for n, _ in tied)
                else:
                    self.read.add(frame.number)

    def free(self) -> set[int]:
        """The frames from which what is added reaches nothing but layer norms."""
        sources: dict[int, list[int]] = {}
        for frame, targets in self.passed.items():
            for target in targets:
                sources.setdefault(target, []).append(frame)
        found = set(self.read)
        waiting = list(found)
        while waiting:
            for frame in sources.get(waiting.pop(), ()):
                if frame not in found:
                    found.add(frame)
                    waiting.append(frame)
        return set(self.passed) - found


def _tied_to(scene: Scene, frame: int) -> list[tuple[int, int]]:
    """The frames that an op ties one to, and their parities."""
    one_way = [(b, parity) for a, b, parity in scene.ties if a == frame]
    return one_way + [(a, parity) for a, b, parity in scene.ties if b == frame]


def _is_taken_away(event: Event, frame: Frame, used: Collection[int]) -> bool:
    """Does a layer norm take the mean over exactly the units of a frame, and keep it to itself?"""
    x, normalised = event.args[:2]
    inside = tuple(range(x.layout.ndim - len(normalised), x.layout.ndim))
    is_unit = frame.places >= 0
    return (
        frame.on <= {*inside}
        and prod(x.layout.shape[d] for d in inside) == frame.size
        and bool((is_unit.all(axis=inside) == is_unit.any(axis=inside)).all())
        and sum(v.number == x.number for v in event.operands) == 1
        and event.results[1].number not in used
    )
