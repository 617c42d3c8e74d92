"""What all passes have in common."""

from __future__ import annotations

from abc import abstractmethod

from torch import nn
from torch.fx.passes.infra.pass_base import PassBase, PassResult

from ..models.surroundings import neutral


class Pass(PassBase):
    """A pass of torch whose promise is checked on the module that it returns.

    torch asks ``ensures`` about the module that went in. And where a model cannot be had as a
    graph, another module stands for it, so that ``graph_module`` may be any module.
    """

    @neutral()
    def __call__(self, graph_module: nn.Module) -> PassResult:
        self.requires(graph_module)
        result = self.call(graph_module)
        self.ensures(result.graph_module)
        return result

    def requires(self, graph_module: nn.Module) -> None:
        """Check what the pass needs; raises an error that says what is missing."""

    @abstractmethod
    def call(self, graph_module: nn.Module) -> PassResult:
        """Do the work; the result is the same module, or another one."""

    def ensures(self, graph_module: nn.Module) -> None:
        """Check what the pass promises; only a fault of this library breaks a promise."""
