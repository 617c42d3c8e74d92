"""How signs and rotations of units act on what layers are given and return.

That is found by doing it: B runs once more with the signs of random units changed and units rotated
at random. Whatever an activation has become then tells what acts on it, and where nothing that
could act explains what it has become, it is not compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from ..matching.transforms.groups import Step, steps_of
from ..symmetry.elements import still
from ..symmetry.group import Symmetry
from ..symmetry.kinds import Factor, Kinds, Place
from ..symmetry.linear_action import LinearAction
from ..symmetry.parts import AxisGroup, ParameterSymmetry, Segment
from ..symmetry.permutation import Permutation
from ..symmetry.transform import Subgroup, Transform

EXPLAINED = 0.02
"""A difference of a smaller share of an activation is rounding, also of bfloat16; a wrong sign
makes one of its own size."""
EXAMPLES = 8
"""As many tell what acts."""


@dataclass(frozen=True)
class Probe:
    """What is done to B, and of which blocks more than permutations is searched."""

    transform: Transform
    steps: Mapping[str, Step]

    @classmethod
    def draw(cls, symmetry: Symmetry, group: Subgroup) -> Probe:
        """A random transform that leaves units in their places; nothing, where that is all."""
        steps = steps_of(symmetry, group)
        if not steps:
            return cls(Permutation.identity(symmetry), steps)
        drawn = Transform.random(symmetry, torch.Generator().manual_seed(0), group=group)
        matrices = {}
        for name in drawn.matrices.keys() & steps.keys():
            u, _, vh = torch.linalg.svd(drawn.matrices[name])
            matrices[name] = u @ vh
        signs = {name: drawn.signs[name] for name in drawn.signs.keys() & steps.keys()}
        places = {b.name: still(b) for b in symmetry}
        return cls(Transform(symmetry, places, signs, {}, matrices), steps)

    def mixes(self, moves: ParameterSymmetry) -> bool:
        """Do units on this tensor mix?"""
        blocks = (name for g in moves.groups for s in g.segments for name in s.blocks)
        return any(self.steps.get(name) == "orthogonal" for name in blocks)

    def explain(
        self, moves: ParameterSymmetry, before: Tensor, after: Tensor | None
    ) -> dict[Place, Factor] | None:
        """How elements of blocks act on one activation; None if that cannot be told.

        Args:
            moves: where blocks lie on it.
            before, after: what it was, and what it is in the model that the probe has moved.
        """
        acting = [
            g
            for g, one in enumerate(moves.groups)
            if any(name in self.steps for s in one.segments for name in s.blocks)
        ]
        if not acting:
            return {}
        if len(acting) > 1 or after is None or after.shape != before.shape:
            return None
        (g,) = acting
        axes = moves.groups[g].axes
        if 0 not in {a for one in moves.groups for a in one.axes}:
            before, after = before[:EXAMPLES], after[:EXAMPLES]
        factors: dict[Place, Factor] = {}
        for s, segment in enumerate(moves.groups[g].segments):
            dims = [d for d, name in enumerate(segment.blocks) if name in self.steps]
            found = _of_segment(_Seen(self, axes, segment, before, after), dims)
            if found is None:
                return None
            for d, factor in zip(dims, found, strict=True):
                factors[moves.name, g, s, d] = factor
        return factors


@dataclass(frozen=True, eq=False)
class _Seen:
    """One segment of an activation, before and after."""

    probe: Probe
    axes: tuple[int, ...]
    segment: Segment
    before: Tensor
    after: Tensor

    def of_copy(self, copy: int) -> _Seen:
        """The same of one copy alone."""
        segment = self.segment
        one = Segment(segment.blocks, segment.positions[..., [copy]], segment.parents)
        return replace(self, segment=one)

    def mask(self) -> Tensor:
        """1 at the entries of the segment, and 0 at all others."""
        held = torch.zeros([self.before.shape[a] for a in self.axes], dtype=torch.float64)
        held.view(-1)[torch.from_numpy(self.segment.positions.ravel())] = 1
        held = held.permute(sorted(range(len(self.axes)), key=lambda k: self.axes[k]))
        shape = [n if a in self.axes else 1 for a, n in enumerate(self.before.shape)]
        return held.reshape(shape).to(self.before.device)


def _of_segment(seen: _Seen, dims: Sequence[int]) -> list[Factor] | None:
    """The factors of some dimensions, if what is the same for all copies, or else for each of
    them, explains what a segment has become."""
    count = seen.segment.positions.shape[-1]
    whole = _of_copies(seen, dims)
    if whole is not None or count == 1 or not dims:
        return None if whole is None else [_joined([factor] * count) for factor in whole]
    found = [_of_copies(seen.of_copy(copy), dims) for copy in range(count)]
    known = [factors for factors in found if factors is not None]
    if len(known) < count:
        return None
    return [_joined(column) for column in zip(*known, strict=True)]


def _of_copies(seen: _Seen, dims: Sequence[int]) -> list[Factor] | None:
    """What explains all copies alike."""
    transform, segment, mask = seen.probe.transform, seen.segment, seen.mask()
    kinds, count = transform.symmetry.kinds, segment.positions.shape[-1]
    group = AxisGroup(seen.axes, (segment,))
    moves = ParameterSymmetry(("",), tuple(seen.before.shape), False, (group,))
    expected = seen.after.double() * mask
    names = [segment.blocks[d] for d in dims]
    for guess in product(*(_guesses(name, seen.probe.steps, kinds) for name in names)):
        factors: dict[Place, Factor] = {
            ("", 0, 0, d): _joined([factor] * count) for d, factor in zip(dims, guess, strict=True)
        }
        action = LinearAction(
            transform.symmetry.blocks,
            Kinds(kinds.blocks, factors),
            transform.signs,
            {},
            transform.matrices,
            inverses=transform.matrices,
        )
        difference = action.act(moves, seen.before.double()) * mask - expected
        if float(difference.norm()) <= EXPLAINED * float(expected.norm()):
            return list(guess)
    return None


def _guesses(name: str, steps: Mapping[str, Step], kinds: Kinds) -> Iterator[Factor]:
    """How the element of a block might act on one copy."""
    if steps[name] == "orthogonal":
        yield from (Factor(name, (parity,)) for parity in (1, 0))
    else:
        for signs in product((1, 0), repeat=kinds.of(name).signs):
            yield Factor(name, (1,), (), (signs,))


def _joined(factors: Sequence[Factor]) -> Factor:
    """The factor of several copies, of those of each."""
    return Factor(
        factors[0].block,
        tuple(p for factor in factors for p in factor.parity),
        (),
        tuple(s for factor in factors for s in factor.signs),
    )
