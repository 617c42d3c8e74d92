"""From statements to elements: what is free of every block, and how that acts on stored tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ..layouts.facts import Facts
from ..refinement.build import Refinement
from ..symmetry.kinds import (
    LINEAR,
    ORTHOGONAL_ONES,
    PERMUTATIONS,
    BlockKind,
    Cap,
    Factor,
    Kind,
    Kinds,
    Mix,
    Place,
)
from ..symmetry.parts import AxisGroup, ParameterSymmetry, Segment
from .null_spaces import independent_rows, independent_sets, null_space, null_space_of_signs
from .reading import Statements

Equations = Mapping[str, tuple[list[dict[int, Fraction]], list[set[int]]]]


@dataclass(frozen=True)
class Solved:
    """The kinds of blocks, and what they were found from."""

    kinds: Kinds
    vectors: Mapping[str, Mapping[str, tuple[int, ...]]]
    """Per block, and per parameter that multiplies it unit by unit, to which power each of the
    block's scales acts on it."""


@dataclass
class _Free:
    """What is free of one block."""

    kind: Kind
    caps: list[Cap]
    scales: list[dict[int, int]]
    """Per independent scaling, to which power it scales each frame that stands for others."""
    signs: list[set[int]]
    """Per independent change of signs, the frames that stand for those that it changes."""


def solve(
    statements: Statements,
    refinement: Refinement,
    facts: Facts,
    absorbed: Sequence[str] = (),
) -> Solved:
    """Find what is free of every block, and write down how it acts."""
    symmetry = refinement.symmetry
    solver = _Solver(statements, facts)
    kinds: dict[str, BlockKind] = {}
    factors: dict[Place, Factor] = {}
    vectors: dict[str, dict[str, tuple[int, ...]]] = {}
    moved = {b for p in symmetry.outputs for g in p.groups for s in g.segments for b in s.blocks}
    centred: list[Place] = []
    places: dict[str, list[_Held]] = {}
    for held in _held(symmetry.parameters):
        places.setdefault(held.block, []).append(held)
    for block in symmetry.blocks:
        where = None if block in moved else solver.frames_of(block, places.get(block, []))
        if where is None:
            unknown = Cap(PERMUTATIONS, "what is not followed")
            kinds[block] = BlockKind(caps=(unknown,))
            continue
        free = solver.free(block, where)
        kinds[block] = _kind_of(free)
        for place, found in where.items():
            is_one = place[0] in absorbed and free.kind.mix is not Mix.NOT
            factors[place] = solver.factor(block, free, found, is_one=is_one)
        vectors[block] = solver.vectors(free, block)
        if free.kind == ORTHOGONAL_ONES:
            centred += [one.place for one in places[block] if solver.is_translated(one)]
    variances = {
        facts.parameters[number].name: min(added)
        for number, added in statements.ledger.variances.items()
        if number < len(facts.parameters)
    }
    return Solved(Kinds(kinds, factors, (), variances, tuple(centred)), vectors)


@dataclass(frozen=True, eq=False)
class _Held:
    """A block on a dimension of a segment of a tensor."""

    block: str
    place: Place
    group: AxisGroup
    segment: Segment


def _held(parameters: Sequence[ParameterSymmetry]) -> Iterator[_Held]:
    for parameter in parameters:
        for g, group in enumerate(parameter.groups):
            for s, segment in enumerate(group.segments):
                for d, block in enumerate(segment.blocks):
                    yield _Held(block, (parameter.name, g, s, d), group, segment)


class _Solver:
    """Looks up frames on stored tensors, and solves for what is free of them."""

    def __init__(self, statements: Statements, facts: Facts) -> None:
        self._statements = statements
        self._frames = statements.frames
        self._parameters = facts.parameters
        self._number = {p.name: k for k, p in enumerate(facts.parameters)}
        self._equations: Equations = self._frames.by_roots()
        self._free_of_means = statements.translations.free()
        self._of_block: dict[str, list[int]] = {}
        for frame, block in enumerate(self._frames.blocks):
            self._of_block.setdefault(block, []).append(frame)

    def frames_of(self, block: str, held: Sequence[_Held]) -> dict[Place, list[int]] | None:
        """The frame of every copy of a block, wherever it lies; None if one is not known."""
        if block in self._statements.broken:
            return None
        found: dict[Place, list[int]] = {}
        for one in held:
            frames = [self._frame_at(one, copy) for copy in range(one.segment.positions.shape[-1])]
            known = [f for f in frames if f is not None]
            if len(known) < len(frames) or not self._statements.said.issuperset(known):
                return None
            found[one.place] = known
        return found

    def _frame_at(self, held: _Held, copy: int) -> int | None:
        """The frame that has the first two units of a block where its segment has them.

        There may be several, at other places of the tensor's other axes: they have to act alike.
        """
        name, _, _, dim = held.place
        number = self._number[name]
        shape, axes = self._parameters[number].shape, held.group.axes
        first = [0] * len(held.segment.blocks)
        second = [int(d == dim) for d in range(len(first))]
        ends = []
        for unit in (first, second):
            position = int(held.segment.positions[(*unit, copy)])
            where = np.unravel_index(position, [shape[a] for a in axes])
            ends.append(dict(zip(axes, where, strict=True)))
        found: list[int] = []
        for frame in self._statements.of_value.get(number, {}).get(held.block, ()):
            if frame.on <= set(axes):
                at = [
                    frame.places[
                        tuple(
                            (end[a] if n > 1 else 0) if a in end else slice(None)
                            for a, n in enumerate(frame.places.shape)
                        )
                    ]
                    for end in ends
                ]
                if all((places == k).any() for k, places in enumerate(at)):
                    found.append(frame.number)
        alike = {self._frames.find(f) for f in found}
        return found[0] if len(alike) == 1 else None

    def is_translated(self, held: _Held) -> bool:
        """May any number be added to all units of a block, where it is held?"""
        on_value = self._statements.of_value[self._number[held.place[0]]].get(held.block, ())
        along = [f.number for f in on_value if f.on <= set(held.group.axes)]
        return self._free_of_means.issuperset(along)

    def free(self, block: str, where: Mapping[Place, Sequence[int]]) -> _Free:
        """What is free of a block that has frames on stored tensors."""
        find = self._frames.find
        roots = list(dict.fromkeys(find(f)[0] for f in self._of_block[block]))
        free = _Free(LINEAR, [], [], [])
        for root in roots:
            free.kind = free.kind.meet(self._frames.kind(root))
            free.caps += self._frames.caps(root)
        if free.kind.mix is Mix.NOT:
            stored = {find(f)[0] for frames in where.values() for f in frames}
            on_scales, on_signs = self._equations.get(block, ([], []))
            scales, signs = null_space(on_scales, roots), null_space_of_signs(on_signs, roots)
            acting = [{root: x for root, x in s.items() if root in stored} for s in scales]
            free.scales = [scales[k] for k in independent_rows(acting)]
            free.signs = [signs[k] for k in independent_sets([s & stored for s in signs])]
        return free

    def factor(self, block: str, free: _Free, frames: Sequence[int], *, is_one: bool) -> Factor:
        """How what is free acts on the copies with these frames; not at all on a vector of ones."""
        if free.kind.mix is not Mix.NOT:
            parity = tuple(0 if is_one else self._frames.find(f)[1] for f in frames)
            return Factor(block, parity)
        return Factor(
            block,
            (1,) * len(frames),
            tuple(self._exponents(free, f) for f in frames),
            tuple(tuple(int(self._frames.find(f)[0] in s) for s in free.signs) for f in frames),
        )

    def _exponents(self, free: _Free, frame: int) -> tuple[int, ...]:
        root, parity = self._frames.find(frame)
        return tuple(parity * scale.get(root, 0) for scale in free.scales)

    def vectors(self, free: _Free, block: str) -> dict[str, tuple[int, ...]]:
        """Per parameter that multiplies the units of a block, how the block's scales act on it."""
        return {
            self._parameters[number].name: self._exponents(free, frame)
            for (name, number), frame in self._statements.ledger.vectors.items()
            if name == block and number < len(self._parameters)
        }


def _kind_of(free: _Free) -> BlockKind:
    caps = _caps_that_count(free.caps)
    if free.kind.mix is not Mix.NOT:
        return BlockKind(free.kind, caps=caps)
    kind = Kind(Mix.NOT, bool(free.scales), bool(free.signs))
    return BlockKind(kind, len(free.scales), len(free.signs), caps)


def _caps_that_count(caps: Sequence[Cap]) -> tuple[Cap, ...]:
    """As few as make the kind what it is, those that were met first."""
    kind, kept = LINEAR, []
    for cap in caps:
        if kind.meet(cap.kind) != kind:
            kind = kind.meet(cap.kind)
            kept.append(cap)
    for cap in list(kept):
        rest = LINEAR
        for other in kept:
            rest = rest if other is cap else rest.meet(other.kind)
        if rest == kind:
            kept.remove(cap)
    return tuple(kept)
