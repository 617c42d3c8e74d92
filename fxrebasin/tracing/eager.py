"""A model that is run as it is, where no front end gives a graph."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..models.copying import forget_caches, shared_copy
from .experts import spell_out_experts


class EagerModule(nn.Module):
    """Stands where a traced graph would: a copy of the model that shares its parameters."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.given = (model,)  # in a tuple, so that it is no submodule
        self.model = shared_copy(model)
        forget_caches(self.model)
        spell_out_experts(self.model)
        self.meta: dict[str, Any] = {}

    def anew(self) -> EagerModule:
        """The same, without what runs have left on the copy."""
        return EagerModule(*self.given)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.model(*args, **kwargs)
