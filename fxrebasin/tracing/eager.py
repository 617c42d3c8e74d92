"""A model that is run as it is, where no front end gives a graph."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..models.copying import shared_copy
from .experts import spell_out_experts


class EagerModule(nn.Module):
    """Stands where a traced graph would: a copy of the model that shares its parameters."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = shared_copy(model)
        spell_out_experts(self.model)
        self.meta: dict[str, Any] = {}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.model(*args, **kwargs)
