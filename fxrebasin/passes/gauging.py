"""What passes have in common that give both models other weights of the same function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ..models.validation import check_model
from .base import Pass
from .state import as_inputs, state_of


class GaugePass(Pass):
    """Puts copies of the model, and of a reference if one is given, in its state."""

    def __init__(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        to: nn.Module | None = None,
    ) -> None:
        self.inputs = as_inputs(args, kwargs)
        if to is not None:
            check_model(to, "to")
        self.to = to

    def requires(self, graph_module: nn.Module) -> None:
        state = state_of(graph_module, "symmetry")
        if self.to is not None:
            state.check_reference(self.to)

    def ensures(self, graph_module: nn.Module) -> None:
        gauge = state_of(graph_module, "gauge").gauge
        assert gauge is not None and gauge.is_absorbed
