"""Vectors that can be made one: the weights of norms, which what reads them then absorbs.

A scaling of a block that acts on one weight of a norm, and on no other, takes that weight to one
when its factors are the inverses of it. That there is one is not told from the architecture: the
null space of the equations has it or has it not, as where embeddings are tied.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from ..layouts.events import Event, Value
from ..layouts.facts import Facts
from ..rules.acts import ACTS, Act
from ..symmetry.group import Symmetry
from ..symmetry.kinds import Absorption, Place
from ..symmetry.parts import ParameterSymmetry
from .elements import Solved

PLACES = {Act.GROUP_NORM: 1, Act.LAYER_NORM: 2, Act.RMS_NORM: 2}
"""Which argument of a norm is its weight."""

DIVIDING = 100.0
"""By how much rather tensors are multiplied by the weights of a norm than divided by them."""


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
        rows = _rows(found, block)
        for name, weights in _apart(wanted, rows).items():
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


def _apart(
    vectors: Mapping[str, tuple[int, ...]], rows: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Per vector, the combination of scales that acts on it, and on none of the others.

    One for which there is none is left as it is, which the others then need not care for.
    """
    names = list(vectors)
    while names:
        powers = np.array([vectors[name] for name in names], dtype=float)
        found = [_whole(powers, k, rows) for k in range(len(names))]
        failed = [k for k, weights in enumerate(found) if weights is None]
        if not failed:
            return {n: w for n, w in zip(names, found, strict=True) if w is not None}
        del names[failed[-1]]
    return {}


def _whole(
    powers: NDArray[np.float64], k: int, rows: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Weights of scales that act on one vector alone, and on tensors by whole powers of it: weights
    of norms may be negative, and have no roots.

    The combination of least norm does so nearly always, and divides nothing but what goes with the
    vector, as the bias of its norm. Where it does not, that is taken with which least is divided,
    and then least multiplied.
    """
    alone = np.eye(len(powers))[k]
    least = np.linalg.pinv(powers)[:, k].round(12).astype(np.float64)
    if not np.allclose(powers @ least, alone):
        return None
    others = rows[(rows != powers[k]).any(axis=1)]
    if _are_whole(rows @ least) and (others @ least < 0.5).all():
        return least
    n, scales = rows.shape
    costs = np.r_[np.zeros(scales), np.ones(n), np.full(n, DIVIDING)]
    acting = np.hstack([rows, np.eye(n), -np.eye(n)])  # the powers are those of the inverse
    fixed = np.hstack([powers, np.zeros((len(powers), 2 * n))])
    solved = linprog(
        costs,
        A_eq=np.vstack([acting, fixed]),
        b_eq=np.r_[np.zeros(n), alone],
        bounds=[(None, None)] * scales + [(0, None)] * (2 * n),
    )
    if not solved.success or not _are_whole(rows @ solved.x[:scales]):
        return None
    weights: NDArray[np.float64] = np.asarray(solved.x[:scales], dtype=np.float64)
    return weights


def _are_whole(numbers: NDArray[np.float64]) -> bool:
    return bool(np.allclose(numbers, numbers.round()))


def _rows(found: Solved, block: str) -> NDArray[np.float64]:
    """To which powers the scales of a block act on tensors, each way once."""
    rows = {r for f in found.kinds.factors.values() if f.block == block for r in f.scales}
    return np.array(sorted(rows), dtype=float)


def _readers(
    found: Solved, block: str, weights: NDArray[np.float64]
) -> dict[Place, tuple[int, ...]]:
    """To which powers of the vector tensors are multiplied when it is made one."""
    readers = {}
    for place, factor in found.kinds.factors.items():
        if factor.block == block:
            powers = tuple(-round(float(np.dot(weights, row))) for row in factor.scales)
            if any(powers):
                readers[place] = powers
    return readers
