"""Check that the function has not changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.fx.passes.infra.pass_base import PassResult

from ..errors import VerificationError
from ..kinds.checking import verify_kinds
from ..models.precision import TOLERANCE
from ..models.rebased import MADE_FOR, RebasedModule
from ..symmetry.group import Symmetry
from ..verification.fixed_sizes import differs_at_other_sizes
from ..verification.verify import fits_in_memory, verify
from .base import Pass
from .state import as_inputs, state_of


class Verify(Pass):
    """Compare the emitted module with the user's own, run eagerly on the example inputs.

    Takes: an emitted module, and example inputs unless a pass before had them.
    Gives: the same module; the measured error in its state. An exported graph, which is made for
        the shapes of the example, notes whether it holds for others.
    Requires: ``Rewrite``.
    Ensures: outputs agree within the tolerance of their dtype; where weights were mixed or scaled,
        so they do for random elements of the whole group, in float64.
    Cost: one forward pass of each, in float64 where memory allows, and two for a group that mixes;
        of exported graphs some more, at other sizes.

    >>> import torch
    >>> from fxrebasin.passes import Propagate, Refine, Rewrite, Solve, Trace, Verify
    >>> a, b = (torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2)) for _ in "ab")
    >>> module, solve = b, Solve(to=a, progress=False)
    >>> find = Trace((torch.randn(4, 2),)), Propagate(), Refine()
    >>> for step in (*find, solve, Rewrite(), Verify()):
    ...     module = step(module).graph_module
    """

    def __init__(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None
    ) -> None:
        self.inputs = as_inputs(args, kwargs)

    def requires(self, graph_module: nn.Module) -> None:
        state_of(graph_module, "emitted", "alignment")

    def call(self, graph_module: nn.Module) -> PassResult:
        state = state_of(graph_module)
        args, kwargs = state.inputs_for("Verify", self.inputs)
        assert state.symmetry is not None and state.alignment is not None
        outputs, permutation = state.symmetry.outputs, state.alignment.permutation

        def move_outputs(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
            freed = (permutation.move(p, t) for p, t in zip(outputs, tensors, strict=False))
            return [*freed, *tensors[len(outputs) :]]

        if permutation.log_scales or permutation.matrices:
            _test_group(state.model, args, kwargs, state.symmetry)
        state.verification = verify(
            state.model,
            graph_module,
            args,
            kwargs,
            move_outputs=move_outputs if outputs else None,
            remade=bool(state.gauge or permutation.log_scales or permutation.matrices),
        )
        known = graph_module.meta if isinstance(graph_module, RebasedModule) else {}
        if known.get(MADE_FOR) is not None and not outputs:
            only = differs_at_other_sizes(state.model, graph_module, args, kwargs)
            known[MADE_FOR] = replace(known[MADE_FOR], only=only)
        return PassResult(graph_module, False)

    def ensures(self, graph_module: nn.Module) -> None:
        found = state_of(graph_module).verification
        assert found is not None and found.error <= (found.tolerance or TOLERANCE[found.dtype])


def _test_group(
    model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], symmetry: Symmetry
) -> None:
    """Rounding may hide a little of what matrices do wrongly; in float64 nothing is hidden.

    Raises:
        VerificationError: elements of the group change what the model computes.
    """
    if not fits_in_memory(model):
        return
    try:
        verify_kinds(model, args, kwargs, symmetry=symmetry)
    except VerificationError:
        raise
    except (ArithmeticError, RuntimeError, TypeError, ValueError):
        return  # in float64, or with other weights, it does not run
