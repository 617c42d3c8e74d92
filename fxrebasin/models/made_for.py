"""For which inputs a graph was made: torch.export makes one for the shapes of its example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import fx
from torch.utils._pytree import tree_leaves

from ..errors import InvalidInputError

Shape = tuple[int | None, ...]
"""None stands for any size."""


@dataclass(frozen=True)
class MadeFor:
    """The shapes of the inputs that a graph was made for."""

    shapes: tuple[Shape, ...]
    only: bool = False
    """Does it compute something else than its model on other shapes?"""

    def refused(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Shape]:
        """The shapes of inputs of which one is another than that of its place; else nothing."""
        leaves = tree_leaves((tuple(args), dict(kwargs)))
        found = [tuple(x.shape) for x in leaves if isinstance(x, torch.Tensor)]
        fits = len(found) != len(self.shapes) or all(map(_fits, self.shapes, found))
        return [] if fits else list(found)

    def refuse(self, found: Sequence[Shape], error: Exception | None = None) -> NoReturn:
        """Say what the graph was made for, and how the model is had for other inputs.

        Raises:
            InvalidInputError: always.
        """
        shown = str(error).splitlines()[0] if str(error) else type(error).__name__
        problem = f"it fails: {shown}" if error else "it computes something else than the model"
        raise InvalidInputError(
            f"this graph was exported for inputs of shapes {_listed(self.shapes)}, found "
            f"{_listed(found)}, for which {problem}; use the model itself, permuted, "
            "aligned.report.permutation.apply_to(model_b), or align it for these shapes"
        ) from error


def shapes_of_placeholders(graph: fx.Graph) -> tuple[Shape, ...]:
    """The shapes that tensors have which an exported graph takes."""
    values = (node.meta.get("val") for node in graph.find_nodes(op="placeholder"))
    return tuple(
        tuple(n if isinstance(n, int) else None for n in value.shape)
        for value in values
        if isinstance(value, torch.Tensor)
    )


def _fits(expected: Shape, found: Shape) -> bool:
    return len(expected) == len(found) and all(
        n is None or n == m for n, m in zip(expected, found, strict=True)
    )


def _listed(shapes: Sequence[Shape]) -> str:
    return ", ".join("(" + ", ".join("any" if n is None else str(n) for n in s) + ")"
                     for s in shapes)  # fmt: skip
