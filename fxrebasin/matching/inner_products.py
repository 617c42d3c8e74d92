"""What alignment maximises: the inner product of A's weights with B's permuted ones.

For weights of fixed norm that is the same as minimising their distance (S. Ainsworth, J. Hayase
and S. Srinivasa, "Git Re-Basin", ICLR 2023, section 3.2). Biases and affines enter as matrices of
one column, so they vote by outer products; buffers are permuted but do not vote.

A solver sees four things of an objective: its value on a tensor, how that changes when some
entries move, the entries that meet on one axis, and which blocks share a tensor.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import ArchitectureMismatchError, InvalidArgumentError, InvalidParameterError
from ..models.validation import is_finite
from ..symmetry.action import place_units, source_of
from ..symmetry.group import Symmetry
from ..symmetry.parts import AxisGroup, ParameterSymmetry, Segment
from ..symmetry.permutation import Permutation

Indices = NDArray[np.int64]
Sources = tuple[Indices, ...]
"""Per group of a parameter's axes, the position that each entry comes from."""

IN_CACHE = 1 << 16
"""Entries that are converted to float64 at a time on a CPU, so that they stay in a core's cache."""
AT_ONCE = 1 << 24
"""The same on any other device."""


@dataclass(frozen=True)
class Term:
    """One parameter of both models, with an axis per group of its symmetry and one for the rest."""

    parameter: ParameterSymmetry
    a: torch.Tensor
    b: torch.Tensor
    blocks: frozenset[str]
    weight: float


@dataclass(frozen=True)
class Occurrence:
    """One segment of one axis of a term."""

    term: int
    group: int
    segment: Segment


class WeightMatching:
    """The weight matching objective of two state dicts.

    Args:
        symmetry: the group to align over.
        b: the state dict that is permuted.
        a: the state dict it is aligned with.
        device: where to compute; by default where ``a`` is.
        vector_weight: a factor for parameters with one axis, biases and affines. They count like
            everything else by default; where norms have large weights, they can outvote the
            matrices.

    Raises:
        ArchitectureMismatchError: the state dicts do not fit the symmetry or each other.
        InvalidParameterError: a parameter holds nan or inf.
        InvalidArgumentError: ``vector_weight`` is negative or not finite.
    """

    def __init__(
        self,
        symmetry: Symmetry,
        b: Mapping[str, torch.Tensor],
        a: Mapping[str, torch.Tensor],
        *,
        device: torch.device | str | None = None,
        vector_weight: float = 1.0,
    ) -> None:
        if not 0 <= vector_weight < float("inf"):
            raise InvalidArgumentError(
                f"vector_weight must be a number from 0 upwards, got {vector_weight}"
            )
        self.symmetry = symmetry
        self.terms: list[Term] = []
        for parameter in symmetry.parameters:
            tensor_a, tensor_b = _tensor(a, parameter, "A"), _tensor(b, parameter, "B")
            if not parameter.is_buffer and parameter.groups:
                weight = vector_weight if len(parameter.shape) == 1 else 1.0
                self.terms.append(_term(parameter, tensor_a, tensor_b, device, weight))
        self.occurrences: dict[str, list[Occurrence]] = {name: [] for name in symmetry.blocks}
        for t, term in enumerate(self.terms):
            for g, group in enumerate(term.parameter.groups):
                for segment in group.segments:
                    for name in set(segment.blocks):
                        self.occurrences[name].append(Occurrence(t, g, segment))

    @property
    def device(self) -> torch.device:
        """Where all terms are."""
        return self.terms[0].a.device if self.terms else torch.device("cpu")

    def touched(self, names: set[str]) -> list[int]:
        """The terms that some of the blocks move."""
        return [t for t, term in enumerate(self.terms) if term.blocks & names]

    def sources(self, indices: Mapping[str, Indices], term: int) -> Sources:
        """Where the entries of a term come from, a group of axes at a time."""
        parameter = self.terms[term].parameter
        return tuple(source_of(self.symmetry, indices, parameter, g) for g in parameter.groups)

    def moved(
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
                place_units(self.symmetry, indices, occurrence.segment, groups[g])
        return {
            t: tuple(groups.get(g, source) for g, source in enumerate(sources[t]))
            for t, groups in changed.items()
        }

    def value(self, permutation: Permutation, term: int) -> float:
        """The inner product on one term, accumulated in float64."""
        return self.value_at(term, self.sources(permutation.indices, term))

    def value_at(self, term: int, sources: Sources) -> float:
        """The inner product on one term whose entries come from ``sources``."""
        t = self.terms[term]
        return t.weight * _inner_product(t.a, t.b, list(sources))

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
            sides.append(_inner_product(a, t.b, chosen))
        return t.weight * (sides[0] - sides[1])

    def pair(
        self, indices: Mapping[str, Indices], occurrence: Occurrence, free: Collection[str]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The entries of A and of B on one segment, with a dimension for each of its blocks in
        ``free`` (in order) and a last one for everything else. All other blocks of B are permuted.
        """
        term = self.terms[occurrence.term]
        parameter, segment = term.parameter, occurrence.segment
        still = self.rows(indices, occurrence, free)
        a = select(term.a, occurrence.group, free_first(segment.positions, segment, free).ravel())
        b = select(term.b, occurrence.group, free_first(still, segment, free).ravel())
        sources = self.sources(indices, occurrence.term)
        for g in range(len(parameter.groups)):
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
        parameter = self.terms[occurrence.term].parameter
        group = parameter.groups[occurrence.group]
        source = source_of(self.symmetry, indices, parameter, group, still=free)
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


def _inner_product(a: torch.Tensor, b: torch.Tensor, sources: Sequence[Indices]) -> float:
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


def _tensor(
    state_dict: Mapping[str, torch.Tensor], parameter: ParameterSymmetry, which: str
) -> torch.Tensor:
    name = next((n for n in parameter.names if n in state_dict), None)
    if name is None:
        if parameter.is_buffer:
            return torch.empty(0)
        raise ArchitectureMismatchError(
            f"model {which} has no parameter {parameter.name!r}, which the symmetry moves"
        )
    tensor = state_dict[name].detach()
    if tuple(tensor.shape) != parameter.shape:
        raise ArchitectureMismatchError(
            f"{name!r} has shape {tuple(tensor.shape)} in model {which}, but the symmetry was "
            f"found for shape {parameter.shape}"
        )
    weights = (tensor.is_floating_point() or tensor.is_complex()) and not parameter.is_buffer
    if weights and not is_finite(tensor):
        raise InvalidParameterError(
            f"{name!r} of model {which} holds nan or inf; repair or retrain the model first"
        )
    return tensor


def _term(
    parameter: ParameterSymmetry,
    a: torch.Tensor,
    b: torch.Tensor,
    device: torch.device | str | None,
    weight: float,
) -> Term:
    device = a.device if device is None else torch.device(device)
    double = {torch.float64, torch.complex128} & {a.dtype, b.dtype}
    dtype = torch.float64 if double else torch.float32
    blocks = frozenset(
        name for group in parameter.groups for s in group.segments for name in s.blocks
    )
    return Term(
        parameter,
        _canonical(_real(a).to(device, dtype), parameter.groups),
        _canonical(_real(b).to(device, dtype), parameter.groups),
        blocks,
        weight,
    )


def _real(tensor: torch.Tensor) -> torch.Tensor:
    """Complex numbers as pairs, whose inner product is the real part of theirs."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _canonical(tensor: torch.Tensor, groups: tuple[AxisGroup, ...]) -> torch.Tensor:
    """Bring the axes of every group together, in order, and everything else to the end."""
    axes = [a for group in groups for a in group.axes]
    rest = [a for a in range(tensor.ndim) if a not in axes]
    shape = [prod(tensor.shape[a] for a in group.axes) for group in groups]
    return tensor.permute(*axes, *rest).reshape(*shape, -1)
