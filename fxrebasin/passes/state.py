"""What the passes know of a module, and hand on.

``Trace`` begins a state, every pass adds what it finds, and the next ones read it from the module
that they are given: from ``meta`` of a graph, or, where a model cannot be had as a graph, from the
attribute ``fxrebasin`` of the module that stands for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from ..arguments import refuse
from ..canonical.gauge import Gauge
from ..compaction.compact import Compaction
from ..errors import InvalidInputError, PassOrderError
from ..layouts.facts import Facts
from ..matching.alignment import Alignment
from ..matching.transforms.groups import steps_of
from ..models.inputs import needs_inputs
from ..models.rebased import META
from ..models.validation import (
    check_inputs,
    check_model,
    check_parameters,
    check_same_architecture,
)
from ..refinement.build import Refinement
from ..rules.registry import RuleBook
from ..symmetry.group import Symmetry
from ..tracing.eager import EagerModule
from ..tracing.front_ends import Origin
from ..tracing.symbolic import Leaves
from ..verification.falsification import Falsification
from ..verification.verify import Verification
from .report import Report

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments."""


@dataclass(eq=False)
class State:
    """What the passes have found so far."""

    model: nn.Module
    """The user's own; its parameters were checked by ``Trace``."""
    origin: Origin = field(default_factory=Origin)
    rules: RuleBook = field(default_factory=RuleBook)
    inputs: Inputs | None = None
    """The example inputs that a pass was given first."""
    reference: nn.Module | None = None
    """The model to align with, if ``Trace`` has checked it already."""
    is_part: bool = False
    """Is the model what a graph uses of one whose weights are its inputs?"""
    facts: Facts | None = None
    refinement: Refinement | None = None
    """The group as it was built last, and the units of its blocks."""
    symmetry: Symmetry | None = None
    falsification: Falsification | None = None
    gauge: Gauge | None = None
    """The model and its reference as they are compared, if not as they are."""
    turned: bool = False
    """Were streams rotated by activations before all was aligned by weights?"""
    alignment: Alignment | None = None
    compaction: Compaction | None = None
    emitted: bool = False
    verification: Verification | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def inputs_for(self, step: str, given: Inputs | None) -> Inputs:
        """The example inputs that a pass was given, or those that one before it was given.

        Raises:
            InvalidInputError: there are none, and the model needs some.
        """
        if given is not None:
            self.inputs = self.inputs or given
            return given
        if self.inputs is None and needs_inputs(self.model):
            raise InvalidInputError(
                f"{step} runs {type(self.model).__name__}, and no pass was given example inputs; "
                f"pass them to Trace(args, kwargs), or to {step}(args, kwargs)"
            )
        return self.inputs or ((), {})

    @property
    def source(self) -> nn.Module:
        """The model whose weights are moved: the user's own, or one that computes the same."""
        return self.model if self.gauge is None else self.gauge.model

    def check_reference(self, to: nn.Module) -> None:
        """Refuse a reference of another architecture.

        Raises:
            ArchitectureMismatchError, InvalidParameterError: naming what differs.
        """
        if to is not self.reference:  # else Trace has read all its weights already
            check_parameters(to, "the reference model A")
            check_same_architecture(self.model, to, is_part=self.is_part)

    def compared_with(self, to: nn.Module) -> nn.Module:
        """A reference in the form in which :attr:`source` is.

        Raises:
            PassOrderError: it is another one than that which a pass before was given.
        """
        if self.gauge is None:
            return to
        if self.gauge.reference is None or self.gauge.of_reference is not to:
            raise PassOrderError(
                "Solve is given another reference than Absorb or Canonicalise, which have to bring "
                "it to the form of the model; give both the same, by to="
            )
        return self.gauge.reference

    def report(self) -> Report:
        assert self.symmetry is not None and self.alignment is not None
        return Report(
            self.symmetry,
            self.alignment,
            self.verification,
            dict(self.seconds),
            self.origin.mode_dependent,
            None if self.gauge is None else self.gauge.reference,
            self._note(),
        )

    def _note(self) -> str:
        """What was done to both models before they were compared, or could have been."""
        assert self.symmetry is not None and self.alignment is not None
        if self.gauge is not None:
            by = "activations, then weights" if self.turned else "weights"
            return (
                f"canonical weights, of model A in report.reference, aligned by {by}: {self.gauge}"
            )
        known = self.symmetry.known_kinds is not None or "kinds" in vars(self.symmetry)
        steps = steps_of(self.symmetry, "linear").values() if known else ()
        count = sum(step == "orthogonal" for step in steps)
        return f"units of {count} blocks could be rotated as well: group='linear'" if count else ""


def as_inputs(args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> Inputs | None:
    """Example inputs as they are kept; None if none were given."""
    check_inputs(args, kwargs)
    if args is None and kwargs is None:
        return None
    return tuple(args or ()), dict(kwargs or {})


def as_example(given: Any) -> Inputs:
    """One of several examples: a tensor, a tuple of arguments, or arguments and keywords.

    Raises:
        InvalidArgumentError: it is none of these.
    """
    if isinstance(given, torch.Tensor):
        return (given,), {}
    if isinstance(given, Mapping):
        check_inputs((), given)
        return (), dict(given)
    if not isinstance(given, (tuple, list)):
        refuse("examples", "a tuple of arguments, or (arguments, keywords), for each", given)
    if len(given) == 2 and isinstance(given[0], (tuple, list)) and isinstance(given[1], Mapping):
        check_inputs(*given)
        return tuple(given[0]), dict(given[1])
    return tuple(given), {}


def as_examples(given: Any) -> list[Inputs]:
    """Several examples, in a list.

    Raises:
        InvalidArgumentError: it is no list, or one of them is no example.
    """
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence):
        refuse("examples", "a list of example inputs", given, "give examples=[(x,), (longer,)]")
    return [as_example(one) for one in given]


def leaves_of(rules: RuleBook) -> Leaves:
    """What has a rule of its own is not looked into."""
    return Leaves(rules.modules, rules.functions, rules.methods)


def keep(module: nn.Module, state: State) -> None:
    """Attach a state to a graph, or to a module of the user's own class."""
    _notebook(module)[META] = state


def _notebook(module: nn.Module) -> dict[str, Any]:
    return module.meta if isinstance(module, (fx.GraphModule, EagerModule)) else vars(module)


def state_of(module: nn.Module, *needs: str) -> State:
    """The state of a module in the pipeline.

    Raises:
        PassOrderError: a pass that has to come before has not been run.
    """
    check_model(module, "graph_module")
    state: Any = _notebook(module).get(META)
    if not isinstance(state, State):
        raise PassOrderError("this pass works on the result of Trace; run Trace first")
    for need in needs:
        if getattr(state, need) in (None, False):
            raise PassOrderError(f"this pass needs the result of {MADE_BY[need]}; run it first")
    return state


MADE_BY = {
    "facts": "Propagate",
    "symmetry": "Refine",
    "gauge": "Absorb or Canonicalise",
    "alignment": "Solve",
    "emitted": "Rewrite",
}
