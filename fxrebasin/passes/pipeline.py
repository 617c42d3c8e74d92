"""The pipeline: which passes, in which order, and how long each takes.

Whoever runs all of it, whether for one call of the interface or for a ``PassManager``, has the
order from here; nothing else of the library puts passes in a row.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ..arguments import check_flag
from ..propagation.constraints import Constraint
from ..propagation.movable import Movable
from ..rules.call import Rule
from ..rules.registry import rule_book
from ..symmetry.group import Symmetry, check_symmetry
from ..tracing.front_ends import FRONT_ENDS, FrontEnd
from ..tracing.lifted import Parameters
from .base import Pass
from .canonicalise import Canonicalise
from .falsify import Falsify
from .propagate import Propagate
from .refine import Refine
from .rewrite import Rewrite
from .solve import Solve
from .state import state_of
from .trace import Trace
from .verify import Verify

logger = logging.getLogger(__name__)


def passes_to_analyze(
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    rules: Mapping[Any, str | Rule] | None = None,
    constraints: Sequence[Constraint] = (),
    free_outputs: bool = False,
    check: bool = True,
    front_ends: Sequence[FrontEnd] = FRONT_ENDS,
    reference: nn.Module | None = None,
    examples: Sequence[Any] = (),
    movable: Movable = (),
    parameters: Parameters | None = None,
) -> list[Pass]:
    """The passes that find a symmetry; arguments are those of :func:`fxrebasin.analyze`.

    ``reference`` is the model to align with, if that is to come next.
    """
    check_flag(check, "check")
    trace = Trace(
        args,
        kwargs,
        rules=rule_book(rules),
        front_ends=front_ends,
        reference=reference,
        parameters=parameters,
    )
    propagate = Propagate(
        constraints=constraints, free_outputs=free_outputs, examples=examples, movable=movable
    )
    return [trace, propagate, Refine(), *([Falsify()] if check else [])]


def adopt_symmetry(
    symmetry: Symmetry,
    model: nn.Module,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    reference: nn.Module | None = None,
    rules: Mapping[Any, str | Rule] | None = None,
    front_ends: Sequence[FrontEnd] = FRONT_ENDS,
) -> nn.Module:
    """A traced model with a symmetry that is known, as if passes had found it.

    The front end that ran the model when the symmetry was found is the first to be tried.
    """
    check_symmetry(symmetry)
    tried = sorted(front_ends, key=lambda name: name != symmetry.front_end)
    book = rule_book(rules)
    trace = Trace(args, kwargs, rules=book, front_ends=tried, reference=reference)
    module = run_passes([trace], model)
    state_of(module).symmetry = symmetry
    return module


def passes_to_align(solve: Solve) -> list[Pass]:
    """The passes that align a model whose symmetry is known; for rotations, with canonical weights
    of both models."""
    first: list[Pass] = [Canonicalise(to=solve.to)] if solve.group == "linear" else []
    return [*first, solve, Rewrite(), Verify()]


def run_passes(passes: Sequence[Pass], model: Any) -> nn.Module:
    """Run passes one after another; the state of the result says how many seconds each took."""
    module = model
    seconds: dict[str, float] = {}
    for step in passes:
        start = time.perf_counter()
        module = step(module).graph_module
        name = type(step).__name__.lower()
        seconds[name] = time.perf_counter() - start
        logger.info("%s: %.2f s", name, seconds[name])
    state_of(module).seconds.update(seconds)
    result: nn.Module = module
    return result
