"""Take one of all weights that compute the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn
from torch.fx.passes.infra.pass_base import PassResult

from ..arguments import check_flag
from ..canonical.canonicalise import canonical_tensors
from ..canonical.gauge import in_gauge
from .gauging import GaugePass
from .state import state_of


class Canonicalise(GaugePass):
    """Give the module and its reference canonical weights, so that what is left between them are
    permutations, signs and rotations.

    Norms are absorbed, as by ``Absorb``, which need not come before; streams that only layer norms
    read are centred; blocks on which any matrix may act get their least norm. See
    :func:`fxrebasin.canonicalise`.

    Takes: a module whose symmetry is known, a reference to do the same to if one is given, and
        example inputs unless a pass before had them.
    Gives: the same module; copies of the user's model and of the reference in its state.
        ``Solve`` and ``Rewrite`` go on with these.
    Requires: ``Refine``.
    Ensures: both compute what they did, in float64 before weights are rounded; the weights that
        are absorbed are one.
    Cost: two forward passes of each model in float64, and two copies of its weights; of every block
        to balance, matrices of the size of its products with itself.

    >>> import torch
    >>> from fxrebasin.passes import Canonicalise, Propagate, Refine, Trace
    >>> from fxrebasin.passes.state import state_of
    >>> module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 4))
    >>> for step in (Trace((torch.randn(4, 4),)), Propagate(), Refine(), Canonicalise()):
    ...     module = step(module).graph_module
    >>> state = state_of(module).gauge.model.state_dict()
    >>> written = torch.cat([state["0.weight"], state["0.bias"][:, None]], dim=1)
    >>> read = state["1.weight"]
    >>> torch.allclose(written @ written.T, read.T @ read, atol=1e-5)
    True
    """

    def __init__(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        to: nn.Module | None = None,
        scales: bool = False,
    ) -> None:
        super().__init__(args, kwargs, to=to)
        check_flag(scales, "scales")
        self.scales = scales

    def call(self, graph_module: nn.Module) -> PassResult:
        state = state_of(graph_module, "symmetry")
        assert state.symmetry is not None
        inputs = state.inputs_for("Canonicalise", self.inputs)
        make = partial(canonical_tensors, scales=self.scales)
        state.gauge = in_gauge(state.symmetry, state.model, self.to, *inputs, make=make)
        return PassResult(graph_module, False)
