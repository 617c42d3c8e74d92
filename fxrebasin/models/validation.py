"""Is a model something whose weights can be permuted? Checked before anything else is done."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import nn
from torch._subclasses import FakeTensor

from ..errors import ArchitectureMismatchError, InvalidArgumentError, InvalidParameterError


def stored_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter and buffer under all of its names, parameters first."""
    tensors = dict(model.named_parameters(remove_duplicate=False))
    return {**tensors, **dict(model.named_buffers(remove_duplicate=False))}


def check_state_dict(given: object, name: str) -> None:
    """Refuse what is no state dict, such as the model itself.

    Raises:
        InvalidArgumentError: naming the argument.
    """
    if not isinstance(given, Mapping):
        what = f"{name}.state_dict()" if isinstance(given, nn.Module) else "a state dict"
        raise InvalidArgumentError(
            f"{name}: expected a mapping from names to tensors, found {type(given).__name__}; "
            f"give {what}"
        )


_read: ContextVar[set[Hashable] | None] = ContextVar("_read", default=None)


@contextmanager
def reading_once() -> Iterator[None]:
    """Inside, no tensor is read twice by :func:`is_finite`: the weights of large models take long.

    Only for where nobody writes to the tensors or frees them.
    """
    token = _read.set(set())
    try:
        yield
    finally:
        _read.reset(token)


def is_finite(tensor: torch.Tensor) -> bool:
    """Is every entry a number? A sum finds out fastest; where it overflows, each entry is asked."""
    read = _read.get()
    place = (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
    if read is not None and place in read:
        return True
    total = tensor.detach().sum()
    found = bool(torch.isfinite(total)) or bool(torch.isfinite(tensor).all())
    if read is not None and found:
        read.add(place)
    return found


def check_parameters(model: nn.Module, which: str = "the model") -> None:
    """Refuse models whose parameters cannot be permuted.

    Raises:
        InvalidParameterError: naming the parameter, what is wrong, and what to do.
    """
    parameters = dict(model.named_parameters())
    if not parameters:
        raise InvalidParameterError(
            f"{which} has no parameters, so there is nothing to permute; "
            "was the right module passed?"
        )
    devices: dict[torch.device, str] = {}
    for name, tensor in parameters.items():
        if isinstance(tensor, nn.parameter.UninitializedParameter):
            problem = "is not initialised yet; run the model once first"
        elif isinstance(tensor, FakeTensor) or tensor.device.type == "meta":
            what = "a FakeTensor" if isinstance(tensor, FakeTensor) else "on the meta device"
            problem = f"is {what} and has no values; load the weights first"
        elif tensor.is_quantized:
            problem = f"is quantised ({tensor.dtype}); permute the model before quantising it"
        elif tensor.layout != torch.strided:
            problem = f"is sparse ({tensor.layout}); call .to_dense() on it first"
        elif tensor.is_floating_point() and tensor.dtype.itemsize < 2:
            problem = f"is stored in {tensor.dtype}; call .to(torch.bfloat16) on the model first"
        elif not is_finite(tensor):
            problem = "holds nan or inf; repair or retrain the model first"
        else:
            devices.setdefault(tensor.device, name)
            continue
        raise InvalidParameterError(f"parameter {name!r} of {which} {problem}")
    if len(devices) > 1:
        where = ", ".join(f"{name!r} on {device}" for device, name in devices.items())
        raise InvalidParameterError(
            f"the parameters of {which} lie on several devices ({where}); "
            "move the model to one device first"
        )


def check_same_architecture(model_b: nn.Module, model_a: nn.Module) -> None:
    """Refuse pairs of models that do not have the same parameters and buffers.

    Raises:
        ArchitectureMismatchError: naming the first tensor that differs, and both shapes.
    """
    check_same_tensors(
        stored_tensors(model_b), stored_tensors(model_a), named=("model B", "model A")
    )


def check_same_tensors(
    one: Mapping[str, torch.Tensor],
    other: Mapping[str, torch.Tensor],
    *,
    named: tuple[str, str],
    dtypes: bool = False,
) -> None:
    """Refuse tensors by name that do not have the same names and shapes, and the same ``dtypes``.

    Raises:
        ArchitectureMismatchError: naming the first tensor that differs, and both shapes.
    """
    first, second = named
    advice = "both models must have the same architecture"
    for name, tensor in one.items():
        if name not in other:
            raise ArchitectureMismatchError(
                f"{first} has {name!r} of shape {tuple(tensor.shape)}, which {second} does not "
                f"have; {advice}"
            )
        if other[name].shape != tensor.shape:
            raise ArchitectureMismatchError(
                f"{name!r} has shape {tuple(tensor.shape)} in {first}, but "
                f"{tuple(other[name].shape)} in {second}; {advice}"
            )
        if dtypes and other[name].dtype != tensor.dtype:
            raise ArchitectureMismatchError(
                f"{name!r} is {tensor.dtype} in {first}, but {other[name].dtype} in {second}; "
                "convert one of the models first"
            )
    extra = next((name for name in other if name not in one), None)
    if extra is not None:
        raise ArchitectureMismatchError(
            f"{second} has {extra!r} of shape {tuple(other[extra].shape)}, which {first} does "
            f"not have; {advice}"
        )
