"""The tensors of models that are to be combined: which there are, and whether they fit."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import ArchitectureMismatchError
from ..models.validation import check_same_tensors


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a state dict; what else there is (extra state) has no halfway."""
    return {name: v for name, v in model.state_dict().items() if isinstance(v, Tensor)}


def varies(tensor: Tensor) -> bool:
    """Is there anything between two of them? Not between integers or booleans."""
    return tensor.is_floating_point() or tensor.is_complex()


def computing(tensor: Tensor) -> Tensor:
    """In float32 where its own precision is less, for sums that are rounded only once."""
    return tensor if tensor.itemsize >= 4 else tensor.to(torch.float32)


def check_fit(
    first: Mapping[str, Tensor], other: Mapping[str, Tensor], *, named: tuple[str, str]
) -> None:
    """Refuse state dicts that differ in names, shapes, dtypes, or in what the first one ties.

    A copy of the first model has one place for tensors that it ties, so they must be equal in the
    other one.

    Raises:
        ArchitectureMismatchError: naming the first tensor that differs.
    """
    check_same_tensors(first, other, named=named, dtypes=True)
    for name, earlier in ties(first).items():
        if not torch.equal(other[earlier], other[name]):
            raise ArchitectureMismatchError(
                f"the models differ: {earlier!r} and {name!r} (both of shape "
                f"{tuple(first[name].shape)}) are one tensor in {named[0]}, but have different "
                f"values in {named[1]}"
            )


def ties(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The names of tensors that have another name as well, each with the first of its names.

    >>> weight = torch.zeros(2)
    >>> ties({"one": weight, "other": weight, "alone": torch.zeros(2)})
    {'other': 'one'}
    """
    first_name: dict[tuple[object, ...], str] = {}
    found = {}
    for name, tensor in tensors.items():
        if tensor.numel():
            place = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride())
            first = first_name.setdefault(place, name)
            if first != name:
                found[name] = first
    return found
