"""State dicts and modules with tensors replaced: what is tied stays tied, nothing given changes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import nullcontext
from typing import TypeVar

import torch
from torch import nn

from ..errors import ArchitectureMismatchError
from ..models.copying import deep_copy, forget_caches
from ..models.validation import check_tensor, check_unwrapped, explain_missing, stored_tensors
from ..symmetry.aliases import check_writable
from ..symmetry.group import Symmetry

M = TypeVar("M", bound=nn.Module)
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


def replaced(symmetry: Symmetry, state: Tensors, made: Tensors) -> dict[str, torch.Tensor]:
    """A state dict with other tensors, rounded to the dtypes of those in their places.

    Args:
        symmetry: which tensors go by several names.
        state: any; not changed. A dict stays of its type and keeps its attributes.
        made: by the first names of parameters, in any dtype and on any device.
    """
    result = copy.copy(state) if isinstance(state, dict) else dict(state)
    for parameter in symmetry.parameters:
        if parameter.name in made:
            rounded: dict[int, torch.Tensor] = {}
            for name in parameter.names:
                if name in state:
                    old = state[name]
                    key = old.data_ptr() if old.numel() else id(old)
                    if key not in rounded:
                        new = made[parameter.name]
                        rounded[key] = torch.empty_like(old).copy_(new).detach()
                    result[name] = rounded[key]
    return result


def module_with(symmetry: Symmetry, model: M, made: Tensors) -> M:
    """A copy of a module, of its own class, with other tensors.

    Raises:
        InvalidArgumentError: two of its tensors share memory and would have to be different.
    """
    copied = deep_copy(model)
    tensors = stored_tensors(copied)
    moved = replaced(symmetry, tensors, made)
    check_writable(tensors, moved)
    done = set()
    with torch.no_grad():
        for name, tensor in tensors.items():
            if moved[name] is not tensor and id(tensor) not in done:
                done.add(id(tensor))
                with torch.inference_mode() if tensor.is_inference() else nullcontext():
                    tensor.copy_(moved[name])
    forget_caches(copied)
    return copied
