"""Moving all that a state dict or a model stores; how one tensor moves is given as a function."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from ..errors import ArchitectureMismatchError
from ..models.validation import check_tensor, check_unwrapped, explain_missing, stored_tensors
from .aliases import check_writable, sharing_memory
from .group import Symmetry
from .parts import ParameterSymmetry

Tensors = Mapping[str, torch.Tensor]
Move = Callable[[ParameterSymmetry, torch.Tensor], torch.Tensor]
MoveInPlace = Callable[[ParameterSymmetry, torch.Tensor], None]


def check_names(symmetry: Symmetry, state_dict: Tensors) -> None:
    """Refuse a state dict of another model, or of one inside a wrapper.

    Raises:
        ArchitectureMismatchError: no tensor has a name that the symmetry knows, or one has that
            which a wrapper gives it.
    """
    known = [name for p in symmetry.parameters for name in p.names]
    if known and not any(name in state_dict for name in known):
        raise ArchitectureMismatchError(explain_missing(known, state_dict, "state_dict"))
    moving = (p.names for p in symmetry.parameters if p.groups)
    missing = {n for names in moving if state_dict.keys().isdisjoint(names) for n in names}
    check_unwrapped(missing, state_dict, "state_dict")


def tensors_to_move(symmetry: Symmetry, model: nn.Module) -> dict[str, torch.Tensor]:
    """All that a model stores.

    Raises:
        ArchitectureMismatchError: a parameter that the symmetry knows is not there.
    """
    tensors = stored_tensors(model)
    for parameter in symmetry.parameters:
        if parameter.name not in tensors:
            raise ArchitectureMismatchError(
                f"the model has no parameter {parameter.name!r}, which the symmetry moves"
            )
    return tensors


def moved_tensors(symmetry: Symmetry, tensors: Tensors, move: Move) -> dict[str, torch.Tensor]:
    """What comes in the place of the tensors that move; tied ones stay tied.

    Raises:
        ArchitectureMismatchError: one of them has another shape.
    """
    result = {}
    for parameter in symmetry.parameters:
        moved: dict[int, torch.Tensor] = {}
        for name, tensor in _checked(parameter, tensors):
            if parameter.groups:
                key = tensor.data_ptr() if tensor.numel() else id(tensor)
                if key not in moved:
                    moved[key] = move(parameter, tensor)
                result[name] = moved[key]
    return result


def move_tensors_(symmetry: Symmetry, tensors: Tensors, move: Move, move_: MoveInPlace) -> bool:
    """Write to the tensors themselves; has anything been written?

    Raises:
        InvalidArgumentError: two of them share memory and would have to move differently; nothing
            was changed.
        ArchitectureMismatchError: one of them has another shape; nothing was changed.
    """
    shared = sharing_memory(tensors)
    at_once = {n: t for n, t in tensors.items() if n in shared}
    moved = {**tensors, **moved_tensors(symmetry, at_once, move)}
    check_writable(tensors, moved)
    alone = [(p, _checked(p, tensors, but=shared)) for p in symmetry.parameters]
    done = set()
    with torch.no_grad():
        for name in shared:
            tensor = tensors[name]
            if moved[name] is not tensor and id(tensor) not in done:
                done.add(id(tensor))
                with _writing_to(tensor):
                    tensor.copy_(moved[name])
        for parameter, named in alone:
            for tensor in {id(t): t for _, t in named}.values():
                if parameter.groups:
                    done.add(id(tensor))
                    with _writing_to(tensor):
                        move_(parameter, tensor)
    return bool(done)


def _checked(
    parameter: ParameterSymmetry, tensors: Tensors, but: Collection[str] = ()
) -> list[tuple[str, torch.Tensor]]:
    """The tensors of a parameter, under each of its names.

    Raises:
        ArchitectureMismatchError: one of them has another shape.
    """
    found = [(n, tensors[n]) for n in parameter.names if n in tensors and n not in but]
    for name, tensor in found:
        if parameter.groups or not isinstance(tensor, torch.Tensor):
            check_tensor(tensor, f"state_dict[{name!r}]")
        if tuple(tensor.shape) != parameter.shape:
            raise ArchitectureMismatchError(
                f"{name!r} has shape {tuple(tensor.shape)}, but the symmetry was found "
                f"for shape {parameter.shape}"
            )
    return found


def _writing_to(tensor: torch.Tensor) -> AbstractContextManager[object]:
    return torch.inference_mode() if tensor.is_inference() else nullcontext()
