"""The tensors of a state, by the names that a symmetry knows them by."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ..errors import ArchitectureMismatchError
from ..models.validation import check_tensor, check_unwrapped, explain_missing
from ..symmetry.group import Symmetry

Tensors = Mapping[str, torch.Tensor]


def by_first_names(symmetry: Symmetry, state: Tensors, which: str) -> dict[str, torch.Tensor]:
    """The tensors of the parameters that a symmetry moves, by their first names.

    Raises:
        ArchitectureMismatchError: one is missing, or has another shape.
        InvalidParameterError: one has no values that can be changed.
    """
    found, missing = {}, []
    for parameter in symmetry.parameters:
        names = [name for name in parameter.names if name in state]
        if not parameter.groups:
            continue
        if not names:
            missing += [] if parameter.is_buffer else [parameter.name]
            continue
        tensor = state[names[0]]
        check_tensor(tensor, f"{which}[{names[0]!r}]")
        if tuple(tensor.shape) != parameter.shape:
            raise ArchitectureMismatchError(
                f"{which}[{names[0]!r}]: expected shape {parameter.shape}, for which the symmetry "
                f"was found, found {tuple(tensor.shape)}; give the weights of the model that was "
                "analysed"
            )
        found[parameter.name] = tensor
    check_unwrapped(missing, state, which)
    if missing:
        raise ArchitectureMismatchError(explain_missing(missing, state, which))
    return found
