"""What one op does to one block: the frames of its operands and results, by the axes of the op.

Axes have letters, as in a signature: the operands ``n k`` and ``k m`` of a product of matrices
meet along ``k``. Frames are compared after their axes have been put in the order of all letters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..layouts.events import Value
from ..layouts.ids import Ids
from ..symmetry.kinds import LINEAR_ONES, Kind
from .frames import Frames
from .places import agree, covers, varied_dims

Letters = Sequence[str]
"""A name for each axis of a value; those of other values with the same names are the same."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame on one value."""

    number: int
    """Its number among all frames."""
    size: int
    places: Ids
    on: frozenset[int]
    """The dims of the value along which it lies."""


@dataclass(frozen=True, eq=False)
class Seen:
    """A frame, its axes in the order of all letters of an op."""

    number: int
    places: Ids
    on: frozenset[str]
    """The letters of the axes along which it lies."""


@dataclass(eq=False)
class Scene:
    """One op, as far as one block is concerned."""

    frames: Frames
    block: str
    op: str
    node: str
    found: dict[int, list[Frame]]
    """The frames of the block on every value, by the number of the value."""
    spoken: set[int] = field(default_factory=set)
    """The frames of which something was said; of the others, nothing is known but permutations."""
    ties: list[tuple[int, int, int]] = field(default_factory=list)
    """What was said by :meth:`same`."""

    def on(self, value: object) -> list[Frame]:
        """The frames of the block on a value; on anything but a value there are none."""
        return self.found.get(value.number, []) if isinstance(value, Value) else []

    def is_zero(self, value: object) -> bool:
        """Is it nothing but zeros, which every linear map keeps?"""
        if isinstance(value, Value):
            return value.is_zero
        return value is None or value == 0

    def see(
        self, value: object, letters: Letters, order: Letters, *, groups: int = 1
    ) -> list[Seen]:
        """The frames on a value, their axes put in ``order``.

        An axis of two letters, as ``"g c"``, is ``groups`` groups, one after another.
        """
        return [self._seen(frame, letters, order, groups) for frame in self.on(value)]

    def _seen(self, frame: Frame, letters: Letters, order: Letters, groups: int) -> Seen:
        places, apart = frame.places, [*" ".join(letters).split()]
        if len(apart) > len(letters):
            axes_given = zip(places.shape, letters, strict=True)
            places = places.reshape(
                [k for n, name in axes_given for k in _split_size(n, " " in name, groups)]
            )
        letters = apart
        axes = [letters.index(letter) for letter in order if letter in letters]
        moved = places.transpose(axes)
        sizes = iter(moved.shape)
        places = moved.reshape([next(sizes) if letter in letters else 1 for letter in order])
        on = frozenset(order[d] for d in varied_dims(places, frame.size))
        return Seen(frame.number, places, on)

    # what is said of frames

    def same(self, one: int, other: int, parity: int = 1) -> None:
        self.frames.tie(one, other, parity, self.op, self.node)
        self.ties.append((one, other, parity))
        self.spoken |= {one, other}

    def cap(self, frame: int, kind: Kind) -> None:
        self.frames.cap(frame, kind, self.op, self.node)
        self.spoken.add(frame)

    def keep_ones(self, frame: int) -> None:
        """Something is added to, or summed over, all units alike."""
        self.cap(frame, LINEAR_ONES)
        self.frames.fix_scale(frame)
        self.frames.fix_sign(frame)

    def forbid(self, frame: int) -> None:
        self.frames.permute_only(frame, self.op, self.node)
        self.spoken.add(frame)

    def multiply(self, terms: Sequence[tuple[int, int]]) -> None:
        self.frames.multiply(terms, self.op, self.node)
        self.spoken |= {frame for frame, _ in terms}

    def say_nothing(self, values: Sequence[object]) -> None:
        """That an op does not care for what lies on values, which is then as good as uniform."""
        self.spoken |= {frame.number for value in values for frame in self.on(value)}

    def same_where_they_meet(self, one: Sequence[Seen], other: Sequence[Seen]) -> None:
        for f in one:
            for g in meeting(f, other):
                self.same(f.number, g.number)

    def add(self, results: Sequence[Seen], terms: Sequence[tuple[Sequence[Seen], bool]]) -> None:
        """Results are sums: of every term its frames, and whether it is zero where it has none.

        A term that is the same for all units, as a number, is kept by what keeps ones.
        """
        for h in results:
            for frames, is_zero in terms:
                met = meeting(h, frames)
                for f in met:
                    self.same(f.number, h.number)
                if not is_zero and not covered(h, met):
                    self.keep_ones(h.number)


def _split_size(size: int, is_split: bool, groups: int) -> tuple[int, ...]:
    if not is_split:
        return (size,)
    return (groups, size // groups) if size > 1 else (1, 1)


def meeting(one: Seen, others: Sequence[Seen]) -> list[Seen]:
    """The frames that have the same units as one wherever both have any."""
    return [other for other in others if agree(one.places, other.places)]


def covered(one: Seen, others: Sequence[Seen]) -> bool:
    """Is there, wherever a frame has units, one of the others?"""
    if len(others) == 1:
        return covers(others[0].places, one.places)
    where = np.array(False)
    for other in others:
        where = where | (other.places >= 0)
    return not bool(((one.places >= 0) & ~where).any())
