"""Cut units that are not needed out of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from ..errors import FxrebasinError
from ..models.copying import deep_copy
from ..models.precision import dtype_of
from ..models.rebased import RebasedModule, emit
from ..models.validation import stored_tensors
from ..rules.registry import RuleBook
from ..symmetry.group import Symmetry
from ..symmetry.permutation import Permutation
from ..verification.trials import DOUBLE
from ..verification.verify import Verification, verify
from .candidates import find_candidates
from .places import find_places
from .plan import Plan, plan_of
from .search import FAILURES, Subject, agree, search


@dataclass(frozen=True, eq=False)
class Compaction:
    """What was cut out of a model, and what was not."""

    permutation: Permutation
    """What has put the units that were cut last, under every parent."""
    removed: Mapping[str, int]
    """Per block that became smaller, how many units it has lost under each parent."""
    parameters_before: int
    parameters_after: int
    notes: tuple[str, ...]
    """The blocks of which units stay though weights of zeros lead to them, and why."""
    folded: tuple[str, ...]
    """The biases and running means that constants went into."""
    verification: Verification
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Time spent per pass."""

    @property
    def symmetry(self) -> Symmetry:
        """The group of the model before it was cut."""
        return self.permutation.symmetry

    @property
    def removed_units(self) -> int:
        """How many units are gone, those inside of units that are gone not counted."""
        blocks = self.symmetry.blocks
        return sum(n * blocks[name].count for name, n in self.removed.items())

    def __str__(self) -> str:
        before, after = self.parameters_before, self.parameters_after
        share = 1 - after / before if before else 0.0
        lines = [
            f"{self.removed_units:,} units of {len(self.removed)} blocks removed; "
            f"{before:,} -> {after:,} parameters ({share:.1%} less)"
        ]
        if self.folded:
            lines.append(f"constants went into {len(self.folded)} biases")
        lines.append(f"verified: {self.verification}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def compact_graph(
    model: nn.Module,
    traced: nn.Module,
    symmetry: Symmetry,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    rules: RuleBook,
) -> tuple[nn.Module, Compaction]:
    """Cut the units that a model does not need out of its graph.

    Args:
        model: the user's own; not changed.
        traced: its graph; where it is none, nothing is cut.
        symmetry: its group.
        args, kwargs: example inputs.
        rules: those that the symmetry was found with.

    Returns:
        The module that is left, verified against the model, and what was cut.

    Raises:
        ArchitectureMismatchError: the symmetry is that of another model.
        VerificationError: the graph does not compute what the model computes, whatever is cut.
    """
    Permutation.identity(symmetry).apply(stored_tensors(model))  # refuses another model's
    if not isinstance(traced, fx.GraphModule):
        note = "no front end gives a graph of the model, and only graphs are cut"
        return _nothing_cut(model, deep_copy(model), symmetry, (note,), args, kwargs)
    candidates = find_candidates(symmetry, stored_tensors(model))
    if not any(candidates):
        return _nothing_cut(model, emit(deep_copy(model), traced), symmetry, (), args, kwargs)
    places = find_places(traced, model, args, kwargs, rules=rules, symmetry=symmetry)
    subject = Subject(model, traced, places, (tuple(args), dict(kwargs)))
    notes: tuple[str, ...] = ()
    for searched in _widths(subject):
        found = search(symmetry, searched, candidates)
        notes = tuple(f"of {name!r} units stay: {why}" for name, why in found.reasons.items())
        try:
            return _emit(subject, found.plan, notes)
        except FAILURES as error:
            reason = str(error).splitlines()[0]
            notes = (*notes, f"nothing was cut, as the result could not be verified: {reason}")
    plain = emit(deep_copy(model), traced)
    return _nothing_cut(model, plain, symmetry, notes, args, kwargs)


def _widths(subject: Subject) -> Iterator[Subject]:
    """In which precision to search: small models in float64, if they run in it; large ones in their
    own, which is many times faster, and in float64 only if what that finds is not exact."""
    wide = subject.in_double()
    if wide is subject or not _runs(wide):
        yield subject
        return
    if _count(subject.model) > DOUBLE:
        yield subject
    yield wide


def _runs(subject: Subject) -> bool:
    try:
        return agree(subject.model, emit(subject.model, subject.traced), subject.inputs)
    except FAILURES:
        return False


def _emit(subject: Subject, plan: Plan, notes: tuple[str, ...]) -> tuple[RebasedModule, Compaction]:
    """Cut, and verify what is left against the model.

    Raises:
        VerificationError: it computes something else.
    """
    model = subject.model
    left, folds = subject.without(subject.permuted(plan), plan)
    verified, compared = subject, left
    if folds and dtype_of(model) != torch.float64:
        # A sum that is kept in a bias is rounded to its dtype: what is exact is seen in float64.
        verified = subject.in_double()
        compared, _ = verified.without(verified.permuted(plan), plan)
        if not agree(model, left, subject.inputs):
            raise FxrebasinError("constants in biases are rounded too much")
    verification = verify(verified.model, compared, *verified.inputs)
    names = tuple(name for name, _ in folds)
    before, after = _count(model), _count(left)
    return left, Compaction(
        plan.permutation,
        plan.removed,
        before,
        after,
        notes,
        names,
        verification,
    )


def _nothing_cut(
    model: nn.Module,
    module: nn.Module,
    symmetry: Symmetry,
    notes: tuple[str, ...],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> tuple[nn.Module, Compaction]:
    plan = plan_of(symmetry, {})
    verification = verify(model, module, args, dict(kwargs))
    count = _count(model)
    return module, Compaction(plan.permutation, {}, count, count, notes, (), verification)


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
