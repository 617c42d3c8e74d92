"""What alignment maximises: the inner product of A's weights with B's permuted ones.

For weights of fixed norm that is the same as minimising their distance (S. Ainsworth, J. Hayase
and S. Srinivasa, "Git Re-Basin", ICLR 2023, section 3.2). Biases and affines enter as matrices of
one column, so they vote by outer products; buffers are permuted but do not vote.

A solver sees three things of an objective: its value on the tensors that some blocks move, the
gains of putting one unit in the place of another, and which blocks share a tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray

from .errors import ArchitectureMismatchError, InvalidParameterError
from .permutation import Permutation, source_of
from .symmetry import AxisGroup, ParameterSymmetry, Segment, Symmetry
from .validation import is_finite

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Term:
    """One parameter of both models, with an axis per group of its symmetry and one for the rest."""

    parameter: ParameterSymmetry
    a: torch.Tensor
    b: torch.Tensor
    blocks: frozenset[str]


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

    Raises:
        ArchitectureMismatchError: the state dicts do not fit the symmetry or each other.
        InvalidParameterError: a parameter holds nan or inf.
    """

    def __init__(
        self,
        symmetry: Symmetry,
        b: Mapping[str, torch.Tensor],
        a: Mapping[str, torch.Tensor],
        *,
        device: torch.device | str | None = None,
    ) -> None:
        self.symmetry = symmetry
        self.terms: list[Term] = []
        for parameter in symmetry.parameters:
            tensor_a, tensor_b = _tensor(a, parameter, "A"), _tensor(b, parameter, "B")
            if not parameter.is_buffer and parameter.groups:
                self.terms.append(_term(parameter, tensor_a, tensor_b, device))
        self.occurrences: dict[str, list[Occurrence]] = {name: [] for name in symmetry.blocks}
        for t, term in enumerate(self.terms):
            for g, group in enumerate(term.parameter.groups):
                for segment in group.segments:
                    for name in set(segment.blocks):
                        self.occurrences[name].append(Occurrence(t, g, segment))

    def touched(self, names: set[str]) -> list[int]:
        """The terms that some of the blocks move."""
        return [t for t, term in enumerate(self.terms) if term.blocks & names]

    def value(self, permutation: Permutation, term: int) -> float:
        """The inner product on one term, accumulated in float64."""
        t = self.terms[term]
        return float((t.a * self._permuted(permutation, t)).sum(dtype=torch.float64))

    def _permuted(self, permutation: Permutation, term: Term) -> torch.Tensor:
        moved = term.b
        for g, group in enumerate(term.parameter.groups):
            source = source_of(permutation, term.parameter, group)
            moved = moved.index_select(g, torch.from_numpy(source).to(moved.device))
        return moved

    def pair(
        self, permutation: Permutation, occurrence: Occurrence, free: set[str]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The entries of A and of B on one segment, with a dimension for each of its blocks in
        ``free`` (in order) and a last one for everything else. All other blocks of B are permuted.
        """
        term = self.terms[occurrence.term]
        groups, segment = term.parameter.groups, occurrence.segment
        moved = source_of(permutation, term.parameter, groups[occurrence.group], still=free)
        a = term.a.movedim(occurrence.group, 0)
        b = term.b.movedim(occurrence.group, 0)
        a = _with_free_dims(a, segment.positions, segment, free)
        b = _with_free_dims(b, moved[segment.positions], segment, free)
        free_dims = sum(name in free for name in segment.blocks)
        others = [g for g in range(len(groups)) if g != occurrence.group]
        for dim, g in enumerate(others, start=a.ndim - 1 - len(others)):
            source = torch.from_numpy(source_of(permutation, term.parameter, groups[g]))
            b = b.index_select(dim, source.to(b.device))
        return a.flatten(free_dims), b.flatten(free_dims)


def _with_free_dims(
    tensor: torch.Tensor, rows: Indices, segment: Segment, free: set[str]
) -> torch.Tensor:
    kept = [d for d, name in enumerate(segment.blocks) if name in free]
    rest = [d for d in range(rows.ndim) if d not in kept]
    rows = rows.transpose([*kept, *rest])
    shape = rows.shape[: len(kept)]
    index = torch.from_numpy(np.ascontiguousarray(rows).reshape(-1)).to(tensor.device)
    picked = tensor.index_select(0, index)
    return picked.reshape(*shape, -1, *picked.shape[1:])


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
