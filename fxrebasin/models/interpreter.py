"""Run a graph node by node, and say at which node it fails."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from ..errors import FxrebasinError, InvalidInputError


class Interpreter(fx.Interpreter):
    """Runs a graph; where a node fails, the error names it and the shapes it was given.

    Raises:
        InvalidInputError: the graph does not run on these inputs.
    """

    def run_node(self, n: fx.Node) -> Any:
        try:
            return super().run_node(n)
        except FxrebasinError:
            raise
        except Exception as error:
            shapes = [
                tuple(self.env[a].shape)
                for a in n.all_input_nodes
                if isinstance(self.env.get(a), torch.Tensor)
            ]
            raise InvalidInputError(
                f"the model does not run on the example inputs: node {n.name!r} "
                f"({n.op} {n.target}) failed on shapes {shapes}: {type(error).__name__}: {error}"
            ) from error
