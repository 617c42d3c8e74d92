"""How elements of the group act on the terms of an objective.

Every axis of a term is permuted, multiplied by signs, and mixed by matrices, in this order; some
blocks may be left out, so that what is left is the gradient with respect to them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...errors import InvalidArgumentError
from ...symmetry.action import source_of
from ...symmetry.elements import Elements, still
from ...symmetry.kinds import Factor, Kinds
from ...symmetry.linear_action import LinearAction
from ...symmetry.parts import AxisGroup, ParameterSymmetry, Segment
from ...symmetry.transform import Subgroup, Transform
from ..inner_products import InnerProducts, Occurrence, Term, free_first, inner_product, select
from ..trees import Tree, trees_of
from .groups import SUBGROUPS, Step


class Acting:
    """How elements act on the tensors of B in an objective; matrices of elements are orthogonal.

    Args:
        objective: its terms know how signs and matrices act on them.
        steps: the blocks of which more than permutations is searched.
        condense: make terms with many samples smaller, which pays where they are asked often.
    """

    def __init__(
        self, objective: InnerProducts, steps: Mapping[str, Step], *, condense: bool = False
    ) -> None:
        self.objective = objective
        self.terms = [_condensed(t) if condense else t for t in objective.terms]
        self.symmetry = objective.symmetry
        self.steps = steps
        mixing = {name for name, step in steps.items() if step == "orthogonal"}
        self.is_wide = [bool(term.blocks & mixing) for term in objective.terms]
        """Which terms are computed in float64: rotations are not exact in less."""
        self._axes: list[ParameterSymmetry] = []
        """The terms as they are stored: an axis per group."""
        factors: dict[tuple[str, int, int, int], Factor] = {}
        self._numbers: dict[tuple[int, int, int], int] = {}
        known = objective.factors
        for t, term in enumerate(self.terms):
            groups = tuple(AxisGroup((g,), x.segments) for g, x in enumerate(term.moves.groups))
            self._axes.append(ParameterSymmetry((str(t),), tuple(term.a.shape), False, groups))
            for g, group in enumerate(groups):
                for s, segment in enumerate(group.segments):
                    self._numbers[t, g, id(segment)] = s
                    for d, name in enumerate(segment.blocks):
                        if name in steps:
                            factors[str(t), g, s, d] = known[term.moves.name, g, s, d]
        self.kinds = Kinds(self.symmetry.kinds.blocks, factors)

    def factor(self, occurrence: Occurrence, name: str) -> Factor:
        """How the element of a block acts on a segment."""
        t, g, segment = occurrence.term, occurrence.group, occurrence.segment
        s = self._numbers[t, g, id(segment)]
        return self.kinds.factors[str(t), g, s, segment.blocks.index(name)]

    def value(self, t: int, at: Elements) -> float:
        """The inner product on one term, in float64."""
        term = self.terms[t]
        moved = self.moved(t, at)
        return term.weight * inner_product(term.a, moved, [np.arange(len(moved))])

    def gain_of(self, tree: Tree, at: Elements) -> float:
        """What the objective would lose if a tree alone went back to where it is in B."""
        unmoved = {name: still(self.symmetry.blocks[name]) for name in tree.names}
        back = only_permuting(at, tree.names)
        back = back._replace(indices={**back.indices, **unmoved})
        return sum(self.value(t, at) - self.value(t, back) for t in tree.terms)

    def moved(self, t: int, at: Elements) -> Tensor:
        """B's tensor of one term, moved along all of its axes."""
        b = self._wide(t, self.terms[t].b)
        for g in range(len(self._axes[t].groups)):
            b = self._act(b, t, g, at)
        return b

    def pair(
        self, at: Elements, occurrence: Occurrence, free: Collection[str], unknown: set[str]
    ) -> tuple[Tensor, Tensor] | None:
        """The entries of A and of B on one segment, the latter moved by all but the blocks in
        ``free``, as (units of the free blocks, everything else along the axis, copies, the rest).

        Entries of B that depend on ``unknown`` blocks are zero; None if all of them do.
        """
        t, own, segment = occurrence.term, occurrence.group, occurrence.segment
        if unknown & (set(segment.blocks) - set(free)):
            return None
        term = self.terms[t]
        positions = free_first(segment.positions, segment, free).ravel()
        a, b = self._wide(t, select(term.a, own, positions)), term.b
        if not set(segment.blocks) <= set(free):
            b = self._act(self._wide(t, b), t, own, only_permuting(at, free), still=free)
        b = self._wide(t, select(b, own, positions))
        for g, group in enumerate(self._axes[t].groups):
            if g == own:
                continue
            b = self._act(b, t, g, at)
            hidden = [s.positions.ravel() for s in group.segments if unknown & set(s.blocks)]
            if hidden:
                known = torch.ones(b.shape[g], dtype=b.dtype)
                known[torch.from_numpy(np.concatenate(hidden))] = 0
                if not known.any():
                    return None
                b = b * known.to(b.device).reshape([-1 if k == g else 1 for k in range(b.ndim)])
        units = segment.positions.size // segment.positions.shape[-1] // _others(segment, free)
        shape = (units, _others(segment, free), segment.positions.shape[-1], -1)
        return a.movedim(own, 0).reshape(shape), b.movedim(own, 0).reshape(shape)

    def _act(self, b: Tensor, t: int, g: int, at: Elements, still: Collection[str] = ()) -> Tensor:
        axes, symmetry = self._axes[t], self.symmetry
        source = source_of(symmetry.blocks, at.indices, axes, axes.groups[g], still)
        b = select(b, g, source)
        action = LinearAction(
            symmetry.blocks, self.kinds, at.signs, {}, at.matrices, inverses=at.matrices
        )
        by = action.multipliers(axes, g)
        if by is not None:
            along = torch.from_numpy(by).to(device=b.device, dtype=b.dtype)
            b = b * along.reshape([-1 if k == g else 1 for k in range(b.ndim)])
        for segment, d, factor in action.mixing(axes, g):
            b = action.mix(b, axes.groups[g], segment, d, factor)
        return b

    def _wide(self, t: int, tensor: Tensor) -> Tensor:
        return tensor.double() if self.is_wide[t] else tensor


def _others(segment: Segment, free: Collection[str]) -> int:
    """How many units of blocks that are not free there are at each place of those that are."""
    sizes = segment.positions.shape
    return int(np.prod([sizes[d] for d, name in enumerate(segment.blocks) if name not in free]))


def _condensed(given: Term) -> Term:
    """The same term with no more entries than units squared: with one axis that moves, by ``G``,
    the inner product of ``A`` with ``G B`` is that of ``A @ B.T`` with ``G`` itself."""
    if given.a.ndim != 2 or given.a.shape[1] <= given.a.shape[0]:
        return given
    a, b = given.a.double(), given.b.double()
    return replace(given, a=a @ b.T, b=torch.eye(len(a), dtype=a.dtype, device=a.device))


def value_at(objective: InnerProducts, at: Transform) -> float:
    """The objective at a transform, in float64.

    Raises:
        InvalidArgumentError: it changes signs or mixes units, and the objective does not know how
            its terms move then.
    """
    terms = range(len(objective.terms))
    if not at.signs and not at.matrices:
        sources = (objective.sources(at.indices, t) for t in terms)
        return math.fsum(objective.value_at(t, s) for t, s in zip(terms, sources, strict=True))
    acting, elements = acting_at(objective, at)
    return math.fsum(acting.value(t, elements) for t in terms)


def gains_at(objective: InnerProducts, at: Transform) -> dict[str, float]:
    """Per block without parent, what the objective would lose if that block, and what is nested in
    it, alone went back to where it is in B.

    Raises:
        InvalidArgumentError: the objective does not know how its terms move.
    """
    acting, elements = acting_at(objective, at)
    return {tree.root: acting.gain_of(tree, elements) for tree in trees_of(objective)}


def acting_at(objective: InnerProducts, at: Transform) -> tuple[Acting, Elements]:
    """How a transform acts on an objective whose terms know it.

    Raises:
        InvalidArgumentError: they do not.
    """
    steps: dict[str, Step] = dict.fromkeys(at.matrices, "orthogonal")
    steps.update(dict.fromkeys(at.signs, "signed"))
    needed: Subgroup = "linear" if at.matrices else "signed"
    if SUBGROUPS.index(objective.widest) < SUBGROUPS.index(needed):
        raise InvalidArgumentError(
            f"permutation: expected one that {objective.name} knows how to follow, found {at!r}; "
            f"align with group={objective.widest!r}"
        )
    return Acting(objective, steps), Elements(at.indices, at.signs, {}, at.matrices)


def only_permuting(at: Elements, names: Collection[str]) -> Elements:
    """The same, with nothing but their permutations for some blocks."""
    signs = {name: part for name, part in at.signs.items() if name not in names}
    matrices = {name: part for name, part in at.matrices.items() if name not in names}
    return at._replace(signs=signs, matrices=matrices)
