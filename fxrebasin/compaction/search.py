"""Which of the units that zeros suggest can go: tried, all at once, and by halves where that fails.

A cut is kept only if the model without the units computes the same: with its own weights on inputs
of random numbers, and with other weights in all that is left on the example inputs. So nothing here
knows that LayerNorm takes a mean over units, or that softmax weighs all of them.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from ..errors import FxrebasinError
from ..models.copying import deep_copy
from ..models.inputs import takes_nested_inputs
from ..models.precision import (
    TOLERANCE,
    coarsest_dtype,
    dtype_of,
    in_double,
    is_comparable,
    largest_error,
    to_double,
)
from ..models.reachable import copy_with
from ..models.rebased import RebasedModule, emit
from ..models.running import run
from ..symmetry.group import Symmetry
from ..verification.rounding import draw_like, rounding_noise
from .candidates import Candidates, Chosen
from .cutting import cut, with_other_weights
from .folding import Fold, NotConstantError, apply_folds, find_folds
from .places import Places
from .plan import NotABoxError, Plan, plan_of

TRIES = 64
"""How many cuts are tried at most."""

DIFFERENT = "without them the model computes something else"

ABOVE_NOISE = 10.0
"""By how much the difference may exceed that which rounding every weight differently makes."""

FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    FxrebasinError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What a graph raises whose constants no longer fit."""

Inputs = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Subject:
    """A model that units are cut out of."""

    model: nn.Module
    traced: fx.GraphModule
    places: Places
    inputs: Inputs

    def permuted(self, plan: Plan) -> nn.Module:
        return plan.permutation.apply_to(self.model)

    def without(self, moved: nn.Module, plan: Plan) -> tuple[RebasedModule, list[Fold]]:
        """The graph without what is cut, and what went into biases; ``moved`` is not changed.

        Raises:
            NotABoxError: what is left of a tensor has no rectangular shape.
            NotConstantError: a constant cannot be put into a bias.
        """
        left = deep_copy(moved)
        folds = find_folds(emit(moved, self.traced), self.places, plan, *self.inputs)
        apply_folds(left, folds)
        return cut(left, self.traced, self.places, plan), folds

    def in_double(self) -> Subject:
        """The same in float64, where the graph holds no dtypes; else itself."""
        if takes_nested_inputs(self.traced.graph) or dtype_of(self.model) == torch.float64:
            return self
        model = to_double(deep_copy(self.model))
        return Subject(model, self.traced, self.places, in_double(self.inputs))


@dataclass
class Search:
    """What was found to be possible so far."""

    symmetry: Symmetry
    subject: Subject
    chosen: Chosen = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    """Per block of which units stay, why."""
    tries: int = 0

    def __post_init__(self) -> None:
        self.plan = plan_of(self.symmetry, self.chosen)
        self.random = _random_inputs(self.subject)

    def add(self, items: Sequence[tuple[str, Any]]) -> None:
        """Choose more units, of one block each, as far as the model can do without them."""
        reason = self._try(items)
        if not reason or not items:
            return
        if len(items) > 1:
            half = len(items) // 2
            self.add(items[:half])
            self.add(items[half:])
            return
        ((name, units),) = items
        self.reasons.setdefault(name, reason)
        places = np.argwhere(units)
        if len(places) > 1 and self.tries < TRIES:
            for part in np.array_split(places, 2):
                some = np.zeros_like(units)
                some[tuple(part.T)] = True
                self.add([(name, some)])

    def _try(self, items: Sequence[tuple[str, Any]]) -> str:
        """Choose units if the model can do without them; else why it cannot."""
        chosen = dict(self.chosen)
        for name, units in items:
            chosen[name] = chosen.get(name, np.zeros_like(units)) | units
        plan = plan_of(self.symmetry, chosen)
        if plan.sizes != self.plan.sizes or plan.permutation != self.plan.permutation:
            if self.tries >= TRIES:
                return f"not tried after {TRIES} tries"
            self.tries += 1
            reason = self._why_not(plan)
            if reason:
                return reason
        self.chosen, self.plan = chosen, plan
        return ""

    def _why_not(self, plan: Plan) -> str:
        subject = self.subject
        moved = subject.permuted(plan)
        try:
            left, _ = subject.without(moved, plan)
            if not agree(subject.model, left, self.random):
                return DIFFERENT
            other = with_other_weights(moved, plan, seed=0)
            left, _ = subject.without(other, plan)
            if not agree(other, left, subject.inputs):
                return DIFFERENT
        except (NotABoxError, NotConstantError) as error:
            return str(error).splitlines()[0]
        except FAILURES as error:
            return f"the graph does not run without them: {str(error).splitlines()[0]}"
        return ""


def agree(original: nn.Module, rewritten: nn.Module, inputs: Inputs) -> bool:
    """Do two modules return the same, within the tolerance of the coarsest dtype inside?

    In float32 and below that is not enough: a norm over thousands of units hardly feels that one of
    them is gone. The difference must not be far above what rounding the weights makes, either.
    """
    with coarsest_dtype(dtype_of(original)) as coarsest:
        expected = run(deep_copy(original), *inputs)
        with redirect_stderr(io.StringIO()):  # where graphs of torch.fx print why they do not run
            found = run(deep_copy(rewritten), *inputs)
    error = largest_error(expected, found)
    if not error <= TOLERANCE[coarsest.dtype] or coarsest.dtype == torch.float64:
        return error <= TOLERANCE[coarsest.dtype]
    args, kwargs = inputs
    noise = rounding_noise(original, args, kwargs, expected, whole_numbers=False)
    return error <= ABOVE_NOISE * max(noise, torch.finfo(coarsest.dtype).eps)


def _random_inputs(subject: Subject) -> Inputs:
    """Inputs of random numbers, of the size of the example's; those themselves where the model
    makes no numbers of others."""
    generator = torch.Generator().manual_seed(0)

    def draw(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point() or not tensor.numel():
            return tensor
        scale = float(tensor.abs().max()) or 1.0
        return draw_like(tensor, generator) * scale

    given = copy_with(subject.inputs, draw)
    try:
        outputs = run(deep_copy(subject.model), *given)
    except FAILURES:
        return subject.inputs
    return given if all(map(is_comparable, outputs)) else subject.inputs


def search(symmetry: Symmetry, subject: Subject, candidates: Candidates) -> Search:
    """Choose as many of the candidates as the model can do without.

    Args:
        symmetry: its group.
        subject: the model, its graph and example inputs; nothing is changed.
        candidates: the units to try.
    """
    found = Search(symmetry, subject)
    for kind in candidates:
        found.add(list(kind.items()))
    for name, count in found.plan.kept_back.items():
        if count:
            found.reasons.setdefault(name, _why_kept_back(found, name))
    return found


def _why_kept_back(found: Search, name: str) -> str:
    block = found.symmetry.blocks[name]
    if found.plan.sizes[name] == 1:
        return "one has to be left"
    return f"not all of {block.parent!r} can do without as many"
