"""Tensors that share memory, found before anything is written to them.

Two parameters that are views of one piece of memory can be written to only if what is to be written
agrees wherever they overlap. Whether it does is tried on a copy of that memory.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ..errors import InvalidArgumentError

Tensors = Mapping[str, torch.Tensor]


def sharing_memory(tensors: Tensors) -> set[str]:
    """The names of tensors that others, which are other objects, may overlap, or that overlap
    themselves."""
    owners: dict[int, set[int]] = {}
    for tensor in tensors.values():
        if tensor.layout == torch.strided and tensor.numel():
            owners.setdefault(tensor.untyped_storage().data_ptr(), set()).add(id(tensor))
    return {
        name
        for name, t in tensors.items()
        if t.layout != torch.strided
        or (t.numel() and len(owners[t.untyped_storage().data_ptr()]) > 1)
        or _overlaps_itself(t)
    }


def check_writable(tensors: Tensors, moved: Tensors) -> None:
    """Refuse to write where tensors of one model overlap and what is written does not agree.

    Args:
        tensors: all that a model stores, by name.
        moved: what is to be written to each of them; the same object where nothing is.

    Raises:
        InvalidArgumentError: naming two owners of one piece of memory.
    """
    groups: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        if tensor.layout == torch.strided and tensor.numel():
            groups.setdefault(tensor.untyped_storage().data_ptr(), []).append(name)
    for names in groups.values():
        written = [n for n in names if moved[n] is not tensors[n]]
        distinct = {id(tensors[n]): n for n in names}
        alone = len(distinct) == 1 and not _overlaps_itself(tensors[names[0]])
        if written and not alone:
            _check_group({n: tensors[n] for n in names}, moved, written)


def _check_group(tensors: Tensors, moved: Tensors, written: list[str]) -> None:
    first = next(iter(tensors.values()))
    memory = first.untyped_storage().clone()
    copies = {
        name: torch.empty(0, dtype=t.dtype, device=t.device).set_(
            memory, t.storage_offset(), t.size(), t.stride()
        )
        for name, t in tensors.items()
    }
    with torch.no_grad():
        for name in written:
            if _overlaps_itself(tensors[name]):
                raise InvalidArgumentError(_complaint(name, "itself, where it was expanded"))
            copies[name].copy_(moved[name])
        for name, copy in copies.items():
            if not _is_same(copy, moved[name].detach()):
                other = next((n for n in written if n != name), name)
                raise InvalidArgumentError(_complaint(name, repr(other)))


def _complaint(name: str, other: str) -> str:
    return (
        f"{name!r} shares memory with {other}, and they would have to be permuted differently; "
        "nothing was changed. Use permutation.apply_to, whose copy has memory of its own for each"
    )


def check_apart(model_b: Tensors, model_a: Tensors, moving: set[str]) -> None:
    """Refuse to write to tensors of model B that share memory with any of model A.

    Raises:
        InvalidArgumentError: naming both owners.
    """
    owners: dict[int, list[str]] = {}
    for name, tensor in model_a.items():
        if tensor.layout == torch.strided and tensor.numel():
            owners.setdefault(tensor.untyped_storage().data_ptr(), []).append(name)
    for name in model_b:
        tensor = model_b[name]
        if name not in moving or tensor.layout != torch.strided or not tensor.numel():
            continue
        for other in owners.get(tensor.untyped_storage().data_ptr(), ()):
            (low, high), (from_, to) = _span(tensor), _span(model_a[other])
            if low < to and from_ < high:
                raise InvalidArgumentError(
                    f"{name!r} of model B shares memory with {other!r} of model A, which permuting "
                    "in place would change; nothing was changed. Leave out inplace=True, or give "
                    "the models memory of their own"
                )


def _span(tensor: torch.Tensor) -> tuple[int, int]:
    """From which byte to which a tensor reaches."""
    reach = sum((int(n) - 1) * int(s) for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    begin = int(tensor.storage_offset()) * tensor.element_size()
    return begin, begin + (reach + 1) * tensor.element_size()


def _overlaps_itself(tensor: torch.Tensor) -> bool:
    return any(n > 1 and s == 0 for n, s in zip(tensor.shape, tensor.stride(), strict=True))


def _is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool(((one == other) | (one != one)).all())
