"""The tensors that can be reached from what a model returns, however they are wrapped.

Containers of any kind, dataclasses, distributions, namespaces, objects of libraries and closures
are looked into; see ``reachable.py``. What is neither a tensor nor a container, such as a string,
is compared as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import InvalidInputError
from .reachable import leaves_of

_PLAIN = (str, bytes, bool, int, float, complex, type(None), np.generic)


@dataclass(frozen=True, eq=False)
class Returned:
    """What a model has returned."""

    tensors: list[torch.Tensor]
    paths: tuple[str, ...]
    """Where each of them is."""
    others: tuple[tuple[str, Any], ...]
    """Numbers, strings and so on, each with the way that leads there."""
    written: tuple[torch.Tensor, ...] = ()
    """Tensors that were written into the arguments, which whoever calls the model sees as well."""


def returned(value: Any) -> Returned:
    """What can be reached from a result, arrays as tensors.

    Raises:
        InvalidInputError: the result cannot be looked into.
    """
    tensors: list[torch.Tensor] = []
    paths: list[str] = []
    others = []
    for path, leaf in leaves_of(value):
        if isinstance(leaf, torch.Tensor):
            tensors.append(leaf)
            paths.append(path)
        elif isinstance(leaf, np.ndarray) and leaf.dtype.kind in "fciub":
            tensors.append(torch.from_numpy(leaf.copy()))
            paths.append(path)
        elif isinstance(leaf, _PLAIN):
            others.append((path, leaf))
    return Returned(tensors, tuple(paths), tuple(others))


def output_tensors(value: Any) -> list[torch.Tensor]:
    """The tensors among what a model returns, in order."""
    return returned(value).tensors


def require_tensors(tensors: list[torch.Tensor], model: nn.Module, value: Any) -> None:
    """Refuse results without tensors: there is nothing that a permutation could change.

    Raises:
        InvalidInputError: saying what was returned instead.
    """
    if not tensors:
        raise InvalidInputError(
            f"no tensor is found in what {type(model).__name__} returns ({type(value).__name__}), "
            "so that nothing can be compared; have forward return the tensors that matter"
        )
