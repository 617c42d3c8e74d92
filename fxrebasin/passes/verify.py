"""Check that the function has not changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from ..verification.verify import verify
from .state import state_of


class Verify(PassBase):
    """Compare the emitted module with the user's own, run eagerly on the example inputs.

    Takes: an emitted module, and example inputs.
    Gives: the same module; the measured error in its state.
    Requires: ``Rewrite``.
    Ensures: outputs agree within the tolerance of their dtype.
    Cost: one forward pass of each, in float64 where memory allows.

    >>> import torch
    >>> from fxrebasin.passes import Propagate, Refine, Rewrite, Solve, Trace, Verify
    >>> a, b = (torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2)) for _ in "ab")
    >>> x = torch.randn(4, 2)
    >>> module = Trace()(b).graph_module
    >>> steps = (Propagate((x,)), Refine(), Solve(to=a, progress=False), Rewrite(), Verify((x,)))
    >>> for step in steps:
    ...     module = step(module).graph_module
    """

    def __init__(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> None:
        self.args = tuple(args)
        self.kwargs = dict(kwargs or {})

    def requires(self, graph_module: fx.GraphModule) -> None:
        state_of(graph_module, "emitted")

    def call(self, graph_module: fx.GraphModule) -> PassResult:
        state = state_of(graph_module)
        assert state.symmetry is not None and state.alignment is not None
        outputs, permutation = state.symmetry.outputs, state.alignment.permutation

        def move_outputs(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
            return [permutation.permute(p, t) for p, t in zip(outputs, tensors, strict=True)]

        state.verification = verify(
            state.model,
            graph_module,
            self.args,
            self.kwargs,
            move_outputs=move_outputs if outputs else None,
        )
        return PassResult(graph_module, False)

    def ensures(self, graph_module: fx.GraphModule) -> None:
        assert state_of(graph_module).verification is not None
