"""What a solver sees of an objective: a sum of inner products of A's tensors with B's, permuted.

A :class:`Term` is one pair of tensors, of weights or activations or whatever else is compared, with
an axis for every group of axes that permutations move. :class:`InnerProducts` is their sum, with an
index of where every block occurs. All that a solver asks of it is

* the value of a term under a permutation, and how it changes when some entries move,
* the entries of A and of B that meet on one segment of an axis: the factors of a cost matrix,
* which terms a block moves.

An objective is a function that makes the terms; a solver is a function that takes them. For tensors
of fixed norm the sum is highest where the distance is smallest (S. Ainsworth, J. Hayase and
S. Srinivasa, "Git Re-Basin", ICLR 2023, section 3.2).

>>> import torch
>>> from fxrebasin.symmetry.group import Symmetry
>>> from fxrebasin.symmetry.parts import AxisGroup, Block, ParameterSymmetry, Segment
>>> segment = Segment(("rows",), torch.arange(3).reshape(3, 1).numpy(), (-1,))
>>> moves = ParameterSymmetry(("weight",), (3, 2), False, (AxisGroup((0,), (segment,)),))
>>> symmetry = Symmetry({"rows": Block("rows", 3)}, (moves,))
>>> a = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
>>> objective = InnerProducts(symmetry, [term(moves, a, a.flip(0))])
>>> objective.value_at(0, objective.sources({"rows": torch.tensor([[2, 1, 0]]).numpy()}, 0))
4.0
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray

from ..arguments import check_function, check_items, check_kind, check_text
from ..errors import InvalidArgumentError
from ..symmetry.action import place_units, source_of
from ..symmetry.group import Symmetry, check_symmetry
from ..symmetry.kinds import Factor, Place
from ..symmetry.parts import AxisGroup, ParameterSymmetry, Segment
from ..symmetry.transform import Subgroup
from .transforms.groups import SUBGROUPS, check_group

Indices = NDArray[np.int64]
Sources = tuple[Indices, ...]
"""Per group of a parameter's axes, the position that each entry comes from."""

IN_CACHE = 1 << 16
"""Entries that are converted to float64 at a time on a CPU, so that they stay in a core's cache."""
AT_ONCE = 1 << 24
"""The same on any other device."""


PRODUCTS = (2.0**-76, 2.0**76)
"""Between these, products of the largest entries leave room in float32 for those of far smaller
ones, and for sums of many."""


@dataclass(frozen=True)
class Term:
    """One tensor of both models, with an axis per group of its symmetry and one for the rest.

    :func:`term` makes one of tensors as they are stored.
    """

    moves: ParameterSymmetry
    """Where blocks lie on its axes."""
    a: torch.Tensor
    b: torch.Tensor
    blocks: frozenset[str]
    weight: float
    """What its inner product is multiplied by."""


@dataclass(frozen=True)
class Occurrence:
    """One segment of one axis of a term."""

    term: int
    group: int
    segment: Segment


def term(
    moves: ParameterSymmetry,
    a: torch.Tensor,
    b: torch.Tensor,
    *,
    weight: float = 1.0,
    device: torch.device | str | None = None,
) -> Term:
    """Compare two tensors of one shape.

    Views of them where layout and dtype allow it; float16 and bfloat16 become float32, complex
    numbers pairs of reals, and what is so small or large that products of float32 would vanish or
    overflow becomes float64.

    Args:
        moves: how B's tensor moves.
        a, b: the tensors of both models, of shape ``moves.shape``.
        weight: what the inner product is multiplied by.
        device: where to compute; by default where ``a`` is.

    Raises:
        InvalidArgumentError: a tensor has another shape than ``moves`` says.
    """
    for which, tensor in (("a", a), ("b", b)):
        check_kind(tensor, torch.Tensor, which, "a tensor")
    for which, tensor in (("A", a), ("B", b)):
        if tuple(tensor.shape) != moves.shape:
            raise InvalidArgumentError(
                f"the term of {moves.name!r}: expected tensors of shape {moves.shape}, which the "
                f"symmetry moves, found shape {tuple(tensor.shape)} for {which}"
            )
    device = a.device if device is None else torch.device(device)
    double = {torch.float64, torch.complex128} & {a.dtype, b.dtype}
    dtype = torch.float64 if double else torch.float32
    a, b = (_real(x).to(device, dtype) for x in (a, b))
    if not double and not PRODUCTS[0] <= _largest(a) * _largest(b) <= PRODUCTS[1]:
        a, b = a.double(), b.double()
    a, b = (_canonical(x, moves.groups) for x in (a, b))
    blocks = (name for group in moves.groups for s in group.segments for name in s.blocks)
    return Term(moves, a, b, frozenset(blocks), weight)


class InnerProducts:
    """The sum of the terms' inner products, as a function of the permutation of B.

    Args:
        symmetry: the group over which it is maximised.
        terms: the tensors that are compared; blocks in none of them stay where they are.
        name: what it is called on progress bars.
        group: the part of the group that is searched.
        find_factors: how the elements of blocks act on the terms, by the terms' names and the
            numbers of groups, segments and dimensions; asked for where more than permutations is
            searched. Without it, nothing more can be.
        widest: the largest group for which it knows that.
    """

    def __init__(
        self,
        symmetry: Symmetry,
        terms: Iterable[Term],
        *,
        name: str = "matching",
        group: Subgroup = "permutations",
        find_factors: Callable[[], Mapping[Place, Factor]] | None = None,
        widest: Subgroup = "linear",
    ) -> None:
        check_symmetry(symmetry)
        check_kind(terms, Iterable, "terms", "terms, as fr.objectives.term makes them")
        check_text(name, "name", "a name for progress bars")
        check_group(group)
        check_group(widest, "widest")
        if find_factors is not None:
            check_function(find_factors, "find_factors", "one that returns symmetry.kinds.factors")
        self.symmetry = symmetry
        self.terms = list(terms)
        check_items(self.terms, Term, "terms", "a Term", "give what fr.objectives.term returns")
        self.name = name
        self.widest: Subgroup = "permutations" if find_factors is None else widest
        self.group: Subgroup = min(group, self.widest, key=SUBGROUPS.index)
        self.kept: frozenset[str] = frozenset()
        self._find_factors = find_factors
        self.occurrences: dict[str, list[Occurrence]] = {name: [] for name in symmetry.blocks}
        for t, compared in enumerate(self.terms):
            for g, moved in enumerate(compared.moves.groups):
                for segment in moved.segments:
                    for block in set(segment.blocks):
                        self.occurrences[block].append(Occurrence(t, g, segment))

    @cached_property
    def factors(self) -> Mapping[Place, Factor]:
        """How the elements of blocks act on the terms."""
        return {} if self._find_factors is None else self._find_factors()

    def over(self, group: Subgroup) -> InnerProducts:
        """The same, to be searched over another part of the group.

        What knows of permutations alone is searched over these where signs would be allowed too.

        Raises:
            InvalidArgumentError: ``group`` is none, or it is ``"linear"`` and the objective does
                not say how its terms move when units are mixed.
        """
        check_group(group)
        if group == "linear" and self.widest != "linear":
            raise InvalidArgumentError(
                f"group: expected 'permutations' or 'signed', since {self.name} does not know how "
                "its terms move when units are mixed, found 'linear'; use fr.objectives.weights, "
                "or fr.objectives.activations with group='linear'"
            )
        made = copy.copy(self)
        made.group = min(group, self.widest, key=SUBGROUPS.index)
        return made

    def keeping(self, blocks: Collection[str]) -> InnerProducts:
        """The same, with some blocks without parent, and what is nested in them, to be left where
        they are by :func:`fxrebasin.solvers.coordinate_descent`."""
        made = copy.copy(self)
        made.kept = frozenset(blocks)
        return made

    @property
    def device(self) -> torch.device:
        """Where all terms are."""
        return self.terms[0].a.device if self.terms else torch.device("cpu")

    def touched(self, names: set[str]) -> list[int]:
        """The terms that some of the blocks move."""
        return [t for t, term in enumerate(self.terms) if term.blocks & names]

    def sources(self, indices: Mapping[str, Indices], term: int) -> Sources:
        """Where the entries of a term come from, a group of axes at a time."""
        blocks, moves = self.symmetry.blocks, self.terms[term].moves
        return tuple(source_of(blocks, indices, moves, group) for group in moves.groups)

    def sources_after(
        self, names: Collection[str], indices: Mapping[str, Indices], sources: Sequence[Sources]
    ) -> dict[int, Sources]:
        """The sources, under ``indices``, of the terms that the blocks ``names`` move; given those
        of all terms from before these blocks moved."""
        changed: dict[int, dict[int, Indices]] = {}
        for name in names:
            for occurrence in self.occurrences[name]:
                t, g = occurrence.term, occurrence.group
                groups = changed.setdefault(t, {})
                if g not in groups:
                    groups[g] = sources[t][g].copy()
                place_units(self.symmetry.blocks, indices, occurrence.segment, groups[g])
        return {
            t: tuple(groups.get(g, source) for g, source in enumerate(sources[t]))
            for t, groups in changed.items()
        }

    def value_at(self, term: int, sources: Sources) -> float:
        """The inner product on one term whose entries come from ``sources``."""
        t = self.terms[term]
        return t.weight * inner_product(t.a, t.b, list(sources))

    def change(self, term: int, before: Sources, after: Sources) -> float:
        """By how much the value of a term rises, in float64; only what moves is read."""
        t = self.terms[term]
        moved = [g for g in range(len(before)) if not np.array_equal(before[g], after[g])]
        if not moved:
            return 0.0
        if len(moved) > 1:
            return self.value_at(term, after) - self.value_at(term, before)
        (g,) = moved
        where = np.flatnonzero(before[g] != after[g])
        a = select(t.a, g, where)
        sides = []
        for sources in (after, before):
            chosen = [s[where] if k == g else s for k, s in enumerate(sources)]
            sides.append(inner_product(a, t.b, chosen))
        return t.weight * (sides[0] - sides[1])

    def pair(
        self, indices: Mapping[str, Indices], occurrence: Occurrence, free: Collection[str]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The entries of A and of B on one segment, with a dimension for each of its blocks in
        ``free`` (in order) and a last one for everything else. All other blocks of B are permuted.
        """
        term = self.terms[occurrence.term]
        segment = occurrence.segment
        still = self.rows(indices, occurrence, free)
        a = select(term.a, occurrence.group, free_first(segment.positions, segment, free).ravel())
        b = select(term.b, occurrence.group, free_first(still, segment, free).ravel())
        sources = self.sources(indices, occurrence.term)
        for g in range(len(term.moves.groups)):
            if g != occurrence.group:
                b = select(b, g, sources[g])
        sizes = [n for n, name in zip(segment.positions.shape, segment.blocks, strict=False)
                 if name in free]  # fmt: skip
        left, right = (x.movedim(occurrence.group, 0).reshape(*sizes, -1) for x in (a, b))
        return left * term.weight, right

    def rows(
        self, indices: Mapping[str, Indices], occurrence: Occurrence, free: Collection[str]
    ) -> Indices:
        """The positions of a segment, permuted by all of its blocks but those in ``free``."""
        segment = occurrence.segment
        if set(segment.blocks) <= set(free):
            return segment.positions
        moves = self.terms[occurrence.term].moves
        group = moves.groups[occurrence.group]
        source = source_of(self.symmetry.blocks, indices, moves, group, still=free)
        moved: Indices = source[segment.positions]
        return moved


def free_first(rows: Indices, segment: Segment, free: Collection[str]) -> Indices:
    """Positions of a segment with the dimensions of the blocks in ``free`` first."""
    kept = [d for d, name in enumerate(segment.blocks) if name in free]
    return rows.transpose([*kept, *(d for d in range(rows.ndim) if d not in kept)])


def select(tensor: torch.Tensor, dim: int, index: Indices) -> torch.Tensor:
    """Entries along one dimension; a view where they lie side by side."""
    first = int(index[0]) if len(index) else 0
    if np.array_equal(index, np.arange(first, first + len(index))):
        return tensor.narrow(dim, first, len(index))
    return tensor.index_select(dim, torch.from_numpy(np.ascontiguousarray(index)).to(tensor.device))


def inner_product(a: torch.Tensor, b: torch.Tensor, sources: Sequence[Indices]) -> float:
    """Of ``a`` with the entries of ``b`` that come from ``sources``, in float64 part by part."""
    entries = IN_CACHE if a.device.type == "cpu" else AT_ONCE
    step = max(entries // max(a[:1].numel(), 1), 1)
    total = torch.zeros((), dtype=torch.float64, device=a.device)
    moved = [
        (g, torch.from_numpy(source).to(b.device))
        for g, source in enumerate(sources)
        if g and not np.array_equal(source, np.arange(b.shape[g]))
    ]
    for begin in range(0, len(a), step):
        part = select(b, 0, sources[0][begin : begin + step])
        for g, source in moved:
            part = part.index_select(g, source)
        left, right = (x.reshape(-1).to(torch.float64) for x in (a[begin : begin + step], part))
        total += torch.dot(left, right)
    return float(total)


def _largest(tensor: torch.Tensor) -> float:
    """The largest size of an entry; 1 where there is none but 0."""
    if not tensor.numel():
        return 1.0
    low, high = tensor.detach().aminmax()
    return max(-float(low), float(high)) or 1.0


def _real(tensor: torch.Tensor) -> torch.Tensor:
    """Complex numbers as pairs, whose inner product is the real part of theirs."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _canonical(tensor: torch.Tensor, groups: tuple[AxisGroup, ...]) -> torch.Tensor:
    """Bring the axes of every group together, in order, and everything else to the end."""
    axes = [a for group in groups for a in group.axes]
    rest = [a for a in range(tensor.ndim) if a not in axes]
    shape = [prod(tensor.shape[a] for a in group.axes) for group in groups]
    return tensor.permute(*axes, *rest).reshape(*shape, -1)
