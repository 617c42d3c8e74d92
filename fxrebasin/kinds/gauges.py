"""Vectors that can be made one: the weights of norms, which what reads them then absorbs.

A scaling of a block that acts on one weight of a norm, and on no other, takes that weight to one
when its factors are the inverses of it. That there is one is not told from the architecture: the
null space of the equations has it or has it not, as where embeddings are tied.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from ..layouts.events import Event, Value
from ..layouts.facts import Facts
from ..rules.acts import ACTS, Act
from ..symmetry.group import Symmetry
from ..symmetry.kinds import Absorption, Place
from ..symmetry.parts import ParameterSymmetry
from .elements import Solved

PLACES = {Act.GROUP_NORM: 1, Act.LAYER_NORM: 2, Act.RMS_NORM: 2}
"""Which argument of a norm is its weight."""


def find_absorptions(
    found: Solved, facts: Facts, symmetry: Symmetry, *, only: Collection[str] | None = None
) -> list[Absorption]:
    """The vectors that scalings can make one, all at the same time.

    Args:
        found: what is free while nothing is absorbed.
        facts: what running the model has found.
        symmetry: the blocks, and where they lie.
        only: the names of vectors, if not all are to be looked at.
    """
    allowed = _multiply_only(facts) & {p.name for p in symmetry.parameters if _is_one_block(p)}
    result: list[Absorption] = []
    for block, vectors in found.vectors.items():
        wanted = {
            name: powers
            for name, powers in vectors.items()
            if any(powers) and name in allowed and (only is None or name in only)
        }
        for name, weights in _apart(wanted).items():
            result.append(Absorption(block, name, _readers(found, block, weights)))
    return result


def _is_one_block(parameter: ParameterSymmetry) -> bool:
    """Is a tensor a vector of the units of one block, each once?"""
    segments = [s for group in parameter.groups for s in group.segments]
    return (
        len(parameter.shape) == 1
        and len(segments) == 1
        and len(segments[0].blocks) == 1
        and segments[0].positions.shape[-1] == 1
    )


def _multiply_only(facts: Facts) -> set[str]:
    """The vectors that do nothing but multiply units one by one."""
    vectors = {k: p.name for k, p in enumerate(facts.parameters) if len(p.shape) == 1}
    for event in facts.events:
        for value in event.operands:
            if value.number in vectors and not _is_weight(event, value):
                del vectors[value.number]
    return {*vectors.values()}


def _is_weight(event: Event, value: Value) -> bool:
    act = ACTS.get(event.op)
    if act in PLACES:
        return [k for k, a in enumerate(event.args) if a is value] == [PLACES[act]]
    return act is Act.PRODUCT and sum(v.number == value.number for v in event.operands) == 1


def _apart(vectors: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[np.float64]]:
    """Per vector, the combination of scales that acts on it, and on none of the others.

    One for which there is none is left as it is, which the others then need not care for.
    """
    names = list(vectors)
    while names:
        powers = np.array([vectors[name] for name in names], dtype=float)
        inverse = np.linalg.pinv(powers)
        reached = powers @ inverse
        is_reached = np.isclose(reached, np.eye(len(names))).all(axis=1)
        failed = np.flatnonzero(~is_reached).tolist()
        if not failed:
            return {name: inverse[:, k].round(12) for k, name in enumerate(names)}
        del names[failed[-1]]
    return {}


def _readers(
    found: Solved, block: str, weights: NDArray[np.float64]
) -> dict[Place, tuple[float, ...]]:
    """To which powers of the vector tensors are multiplied when it is made one."""
    readers = {}
    for place, factor in found.kinds.factors.items():
        if factor.block == block:
            powers = tuple(-float(np.dot(weights, row)) for row in factor.scales)
            if any(powers):
                readers[place] = powers
    return readers
