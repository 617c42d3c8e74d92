"""Where on a value the units of each block lie: its parts, one for each frame.

A part is an array as a coordinate is, with the number of a unit of the block for every entry, and
-1 where none is. Two members of a block on one axis, as the rows of queries and keys of a packed
projection, are two parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..layouts.adoption import look_up
from ..layouts.causes import PinKind
from ..layouts.ids import Hashes, Ids, mix
from ..layouts.layout import Layout
from ..layouts.units import Units
from ..refinement.blocks import Classes, RawBlock, ancestor_index

NO_UNIT = -1


@dataclass(frozen=True, eq=False)
class Part:
    """The entries of one value that hold units of one block in the same way."""

    block: RawBlock
    places: Ids
    """Per entry, which unit of the block, of all its parents', it holds; -1 for none."""

    @property
    def is_whole(self) -> bool:
        """Does it hold all units of the parents that it meets, each equally often?"""
        found = self.places[self.places >= 0]
        times = np.bincount(found, minlength=self.block.size * self.block.count)
        times = times.reshape(self.block.count, self.block.size)
        return bool((times == times[:, :1]).all())

    def varies_on(self) -> set[int]:
        """The dims along which units of one parent differ."""
        return varied_dims(self.places, self.block.size)


def varied_dims(places: Ids, size: int) -> set[int]:
    """The dims of an array of places along which units of one parent differ.

    >>> varied_dims(np.arange(6).reshape(2, 3), 3), varied_dims(np.arange(6).reshape(2, 3), 6)
    ({1}, {0, 1})
    """
    dims = {d for d, n in enumerate(places.shape) if n > 1}
    inside = places % size
    if len(dims) == 1:
        found = inside[places >= 0]
        return dims if (found != found[0]).any() else set()
    is_unit = places >= 0
    lowest = np.where(is_unit, inside, size)
    highest = np.where(is_unit, inside, NO_UNIT)
    return {d for d in dims if (highest.max(axis=d) > lowest.min(axis=d)).any()}


def agree(x: Ids, y: Ids) -> bool:
    """Do two arrays of places have entries in common, and the same units at all of these?

    >>> agree(np.array([[0, 1]]), np.array([[0], [1]])), agree(np.array([0, -1]), np.array([0, 1]))
    (False, True)
    """
    both = (x >= 0) & (y >= 0)
    return bool(both.any()) and bool(((x == y) | ~both).all())


def covers(x: Ids, y: Ids) -> bool:
    """Has the first units wherever the second has?"""
    return not bool(((y >= 0) & (x < 0)).any())


class Places:
    """Finds the parts of layouts, when the blocks are known."""

    def __init__(self, units: Units, classes: Classes, blocks: Mapping[RawBlock, str]) -> None:
        self._units = units
        self._classes = classes
        self._blocks = blocks
        self._moves = np.array([bool(c.atoms) for c in classes.classes])
        self._found: dict[tuple[tuple[int, ...], bytes, bytes], list[tuple[int, Part]]] = {}

    def parts(self, layout: Layout) -> list[Part]:
        """The parts of a value with this layout; of one block, they are in the order of axes."""
        if layout.parameter is not None:
            coordinates: Sequence[Ids] = look_up(layout) or ()
        else:
            coordinates = layout.coordinates
        return self.parts_of(coordinates)

    def parts_of(self, coordinates: Sequence[Ids]) -> list[Part]:
        moving = [c for c in coordinates if self._has_blocks(c)]
        if not moving:
            return []
        copies = self._copies([c for c in coordinates if c not in _Same(moving)])
        joined: list[Part] = []
        for coordinate in moving:
            for part in self._parts(coordinate, copies):
                self._join(joined, part)
        return joined

    def _has_blocks(self, coordinate: Ids) -> bool:
        return bool(self._moves[self._classes.of_unit[self._units.find(coordinate)]].any())

    def _copies(self, fixed: Sequence[Ids]) -> list[Ids]:
        """The coordinates that do no more than to tell members of one class apart."""
        causes = self._units.causes
        return [
            c
            for c in fixed
            if c.size > 1
            and all(
                causes[k].kind is PinKind.COPY for k in np.unique(self._units.cause(c)).tolist()
            )
        ]

    def _parts(self, coordinate: Ids, copies: Sequence[Ids]) -> list[Part]:
        """The parts of one coordinate."""
        roots = self._units.find(coordinate)
        class_ids, index = self._classes.of_unit[roots], self._classes.index[roots]
        own: dict[RawBlock, list[Ids]] = {}
        above: list[Part] = []
        for k in np.unique(class_ids).tolist():
            here = class_ids == k
            for block, at in self._classes.classes[k].atoms:
                for ancestor in block.ancestors():
                    if ancestor not in self._blocks:
                        continue
                    places = np.full(class_ids.shape, NO_UNIT, dtype=np.int64)
                    places[here] = ancestor_index(block, at[index[here]], ancestor)
                    if ancestor is block:
                        own.setdefault(block, []).append(places)
                    else:
                        self._join(above, Part(ancestor, places), overlapping=False)
        member = self._members(coordinate, copies)
        found = [part for block, arrays in own.items() for part in _apart(block, arrays, member)]
        return [*found, *above]

    def _members(self, coordinate: Ids, copies: Sequence[Ids]) -> Hashes:
        """Numbers that tell apart the members of one class that lie in one coordinate."""
        member: Hashes = self._units.member(coordinate)
        for c in copies:
            member = member + mix(c, 7)
        return member

    def _join(self, parts: list[Part], part: Part, *, overlapping: bool = True) -> None:
        """Add a part, or what it has besides one that says the same of the same entries; or, of
        those that need not overlap, nothing else."""
        for k, known in enumerate(parts):
            if known.block is not part.block:
                continue
            both = (known.places >= 0) & (part.places >= 0)
            if agree(known.places, part.places) or not (overlapping or both.any()):
                if not covers(known.places, part.places):
                    parts[k] = Part(part.block, np.maximum(known.places, part.places))
                return
        parts.append(part)


def _apart(block: RawBlock, arrays: Sequence[Ids], member: Hashes) -> list[Part]:
    """The parts of a block by classes and members, if each holds all units; else all in one."""
    apart = []
    for places in arrays:
        if (member == member.flat[0]).all():
            apart.append(Part(block, places))
            continue
        places, which = np.broadcast_arrays(places, member)
        for value in np.unique(which[places >= 0]).tolist():
            apart.append(Part(block, np.where(which == value, places, NO_UNIT)))
    if len(apart) == 1 or all(part.is_whole and part.varies_on() for part in apart):
        return apart
    union = arrays[0]
    for places in arrays[1:]:
        union = np.maximum(union, places)
    return [Part(block, union)]


class _Same:
    """Which arrays are among some, as objects."""

    def __init__(self, arrays: Sequence[Ids]) -> None:
        self._known = {id(array) for array in arrays}

    def __contains__(self, array: object) -> bool:
        return id(array) in self._known
