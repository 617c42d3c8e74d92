"""Permutations that an op commutes with and its rule does not allow.

Sets of *pieces* (whole axes, their blocks ...) of arguments and results are permuted alike, from
small sets to large ones, and the op is run to see which of that it commutes with. Lost is what the
group of the rule does not contain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod

import numpy as np
import torch

from ..errors import InvalidArgumentError
from ..layouts.ids import Ids
from ..models.precision import relative_error
from ..symmetry.action import take
from ..symmetry.group import Symmetry
from ..symmetry.parts import AxisGroup
from ..symmetry.permutation import Permutation
from .allowed import Allowed
from .example import TOLERANCE, Draw, Tensors, generators, join_words

SUBSETS = 600
"""How many sets of axes of one size are tried in search of lost symmetry, smallest first."""


@dataclass(frozen=True)
class _Piece:
    """The part of an axis that is permuted: ``of`` things of an axis of ``size``."""

    tensor: str
    axis: int
    size: int
    of: int
    form: str
    """``whole``, ``blocks`` (as they are), ``inside`` (all blocks alike), ``first`` (block)."""

    def source(self, permutation: Ids) -> Ids:
        rest = self.size // self.of
        if self.form == "blocks":
            return (permutation[:, None] * rest + np.arange(rest)).ravel()
        if self.form == "inside":
            return (np.arange(rest)[:, None] * self.of + permutation).ravel()
        return np.concatenate([permutation, np.arange(self.of, self.size)])

    def __str__(self) -> str:
        rest = self.size // self.of
        return {
            "blocks": f"the {self.of} blocks of ",
            "inside": f"the {self.of} places inside all {rest} blocks of ",
            "first": f"the first {self.of} places of ",
        }.get(self.form, "") + f"{self.tensor}[{self.axis}]"


Pieces = frozenset[_Piece]


def find_lost_symmetry(allowed: Sequence[Allowed], draws: Sequence[Draw]) -> tuple[str, ...]:
    """What the op commutes with and the rule does not allow, in words.

    Two groups of the rule are looked at: where all arguments had units, and where the first had.
    Results that are the same everywhere and always, as of ``isnan``, prove nothing, and neither do
    indices of units, as of ``argsort``.
    """
    values = {n: torch.cat([d.results[n].flatten() for d in draws]) for n in draws[0].results}
    telling = [
        name
        for name, v in values.items()
        if name not in allowed[0].indexed and relative_error(v[:1].expand_as(v), v) > TOLERANCE
    ]
    if not telling:
        return ()
    lost: dict[str, None] = {}
    for pieces in _find_commuting(draws, telling):
        for group in allowed[:2]:
            if not _allows(group, pieces, [*draws[0].tensors, *telling]):
                lost[_describe(pieces, group.symmetry)] = None
                break
    return tuple(lost)


def _find_commuting(draws: Sequence[Draw], results: Sequence[str]) -> list[Pieces]:
    """The smallest sets of pieces whose permutation the op commutes with."""
    tested = [_Commutation(draw, results) for draw in draws]
    shapes = {name: tuple(t.shape) for name, t in draws[0].everything.items()}
    axes = [
        (name, axis, n)
        for name, shape in shapes.items()
        if name in {*draws[0].tensors, *results}
        for axis, n in enumerate(shape)
        if n > 1
    ]
    found: list[Pieces] = []
    sizes = {k for _, _, n in axes for k in range(2, n + 1) if n % k == 0}
    for k in sorted(sizes, reverse=True):
        for pieces in _candidates(axes, k):
            known = any(_implies(other, pieces) for other in found)
            if not known and all(test.holds(pieces) for test in tested):
                found.append(pieces)
    return found


def _candidates(axes: Sequence[tuple[str, int, int]], k: int) -> list[Pieces]:
    """Sets of pieces that hold ``k`` things each, at most one piece per axis; smallest first."""
    choices: list[list[_Piece | None]] = []
    for name, axis, n in axes:
        if n % k == 0:
            forms = ["whole"] if n == k else ["blocks", "inside", "first"]
            choices.append([None, *(_Piece(name, axis, n, k, form) for form in forms)])
    every = (frozenset(p for p in chosen if p) for chosen in product(*choices))
    return sorted((pieces for pieces in every if pieces), key=len)[:SUBSETS]


def _implies(known: Pieces, pieces: Pieces) -> bool:
    """Do these pieces add nothing to a set that is known?"""
    if known <= pieces:
        return True
    if any(p.form != "whole" for p in known):
        return False
    axes = {(p.tensor, p.axis, p.size) for p in known}
    for form in ("blocks", "inside", "first"):
        if axes <= {(p.tensor, p.axis, p.size) for p in pieces if p.form == form}:
            return True
    return False


def _move(tensors: Tensors, pieces: Pieces, permutation: Ids) -> dict[str, torch.Tensor]:
    moved = dict(tensors)
    for piece in pieces:
        source = piece.source(permutation)
        moved[piece.tensor] = take(moved[piece.tensor], (piece.axis,), source)
    return moved


@dataclass(frozen=True)
class _Commutation:
    """Which permutations the op commutes with; it is run once per permutation of arguments."""

    draw: Draw
    results: Sequence[str]
    runs: dict[tuple[Pieces, int], Tensors | None] = field(default_factory=dict)

    def holds(self, pieces: Pieces) -> bool:
        here = frozenset(p for p in pieces if p.tensor in self.draw.tensors)
        for k, permutation in enumerate(generators(next(iter(pieces)).of)):
            if (here, k) not in self.runs:
                self.runs[here, k] = self._run(_move(self.draw.tensors, here, permutation))
            found = self.runs[here, k]
            expected = _move(self.draw.results, pieces - here, permutation)
            if found is None or any(
                relative_error(expected[name], found[name]) > TOLERANCE for name in self.results
            ):
                return False
        return True

    def _run(self, tensors: Tensors) -> Tensors | None:
        try:
            return self.draw.example.run(tensors)
        except RuntimeError:
            return None


def _allows(allowed: Allowed, pieces: Pieces, names: Sequence[str]) -> bool:
    """Does the group hold every permutation of the pieces?"""
    for permutation in generators(next(iter(pieces)).of):
        ids = {name: allowed.ids[name] for name in names}
        expected = _move(ids, pieces, permutation)
        element = _element(allowed.symmetry, pieces, permutation, names)
        if element is None:
            return False
        moved = element.apply(ids)
        if not all(torch.equal(moved[name], expected[name]) for name in names):
            return False
    return True


def _element(
    symmetry: Symmetry, pieces: Pieces, permutation: Ids, names: Sequence[str]
) -> Permutation | None:
    """The only element of the group that can move the pieces like that, if there is one."""
    indices = {name: index.copy() for name, index in Permutation.identity(symmetry).indices.items()}
    for parameter in (p for p in symmetry.parameters if p.name in names):
        inside = [p for p in pieces if p.tensor == parameter.name]
        for group in parameter.groups:
            shape = [n if a in group.axes else 1 for a, n in enumerate(parameter.shape)]
            source = torch.arange(prod(shape)).reshape(shape)
            here = frozenset(p for p in inside if p.axis in group.axes)
            source = _move({parameter.name: source}, here, permutation)[parameter.name]
            if not _read_off(symmetry, group, source.flatten().numpy(), indices):
                return None
    try:
        return Permutation(symmetry, indices)
    except InvalidArgumentError:
        return None


def _read_off(symmetry: Symmetry, group: AxisGroup, source: Ids, indices: dict[str, Ids]) -> bool:
    """Fill in the permutations of blocks that take every entry from its source, if such exist."""
    for segment in group.segments:
        positions = segment.positions
        entry = np.full(len(source), -1, dtype=np.int64)
        entry[positions.ravel()] = np.arange(positions.size)
        taken = entry[source[positions]]
        if (taken < 0).any():
            return False
        places = np.unravel_index(taken, positions.shape)
        rows: list[Ids] = []
        for d, name in enumerate(segment.blocks):
            size = symmetry.blocks[name].size
            above = segment.parents[d]
            row = rows[above] if above >= 0 else np.zeros((1,) * positions.ndim, dtype=np.int64)
            place = np.arange(size).reshape([-1 if k == d else 1 for k in range(positions.ndim)])
            rows.append(row * size + place)
            where = np.broadcast_arrays(row, place, positions)[:2]
            indices[name][tuple(where)] = places[d]
    return True


def _describe(pieces: Pieces, symmetry: Symmetry) -> str:
    order = {name: k for k, name in enumerate(p.name for p in symmetry.parameters)}
    ranked = sorted(pieces, key=lambda p: (order[p.tensor], p.axis))
    own = {(p.tensor, p.axis) for p in pieces}
    blocks = [block for block in symmetry if own & set(block.axes)]
    others = dict.fromkeys(f"{n}[{a}]" for b in blocks for n, a in b.axes if (n, a) not in own)
    how, them = ("together", "them") if len(pieces) > 1 else ("alone", "it")
    verdict = f"ties {them} to {join_words(list(others))}" if others else f"splits {them}"
    if not blocks:
        verdict = f"pins {them}"
    what = join_words([str(p) for p in ranked])
    return f"{what} can be permuted {how}, but the rule {verdict}"
