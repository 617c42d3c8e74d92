"""Is a model something whose weights can be permuted? Checked before anything else is done."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import nn
from torch._subclasses import FakeTensor

from ..arguments import check_kind, refuse
from ..errors import ArchitectureMismatchError, InvalidArgumentError, InvalidParameterError


def stored_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter and buffer under all of its names, parameters first."""
    tensors = dict(model.named_parameters(remove_duplicate=False))
    return {**tensors, **dict(model.named_buffers(remove_duplicate=False))}


def check_model(given: object, name: str) -> None:
    """Refuse what is no module, such as its state dict.

    Raises:
        InvalidArgumentError: naming the argument.
    """
    if isinstance(given, Mapping):
        advice = "load the state dict into a model, model.load_state_dict(...), and give that"
    elif isinstance(given, torch.export.ExportedProgram):
        advice = "give the module that was exported, or program.module()"
    elif isinstance(given, type):
        advice = "make one of it"
    else:
        advice = "give a model"
    check_kind(given, nn.Module, name, "a torch.nn.Module", advice)


def check_inputs(args: object, kwargs: object) -> None:
    """Refuse example inputs that are not given as a tuple and a dict; None is none of them.

    Raises:
        InvalidArgumentError: naming the argument.
    """
    expected = "a tuple of example inputs"
    if isinstance(args, Mapping):
        refuse("args", expected, args, "give inputs by name as kwargs=")
    if args is not None and (isinstance(args, (str, bytes)) or not isinstance(args, Sequence)):
        refuse("args", expected, args, "give args=(x,)")
    expected = "a dict from names to example inputs"
    if kwargs is not None and not isinstance(kwargs, Mapping):
        refuse("kwargs", expected, kwargs, "give kwargs={'name': x}")
    for key in kwargs or ():
        if not isinstance(key, str):
            refuse("kwargs", expected, kwargs, f"{key!r} is no name")


def check_tensor(given: object, name: str, advice: str = "") -> None:
    """Refuse what is no tensor with values that can be moved.

    Raises:
        InvalidArgumentError: it is none.
        InvalidParameterError: it is on the meta device, sparse or quantised.
    """
    if type(given).__module__ == "numpy":
        advice = "give torch.from_numpy of it"
    check_kind(given, torch.Tensor, name, "a tensor", advice)
    assert isinstance(given, torch.Tensor)
    problem = _problem_of(given)
    if problem:
        raise InvalidParameterError(f"{name} {problem}")


def check_state_dict(given: object, name: str) -> None:
    """Refuse what is no state dict, such as the model itself, or an optimizer's.

    Raises:
        InvalidArgumentError: naming the argument.
    """
    if not isinstance(given, Mapping):
        what = f"{name}.state_dict()" if isinstance(given, nn.Module) else "a state dict"
        raise InvalidArgumentError(
            f"{name}: expected a mapping from names to tensors, found {type(given).__name__}; "
            f"give {what}"
        )
    if {"state", "param_groups"} <= given.keys():
        raise InvalidArgumentError(
            f"{name}: expected the state dict of a model, found that of an optimizer; "
            "give model.state_dict()"
        )


PREFIXES = {
    "module.": "DataParallel or DistributedDataParallel",
    "_orig_mod.": "torch.compile",
    "_checkpoint_wrapped_module.": "the wrapper of activation checkpoints",
    "_fsdp_wrapped_module.": "FullyShardedDataParallel",
}
"""What wrappers put in front of the names of parameters."""


def check_unwrapped(missing: Collection[str], given: Mapping[str, object], which: str) -> None:
    """Refuse a mapping in which what is missing has the name that a wrapper gives it: as where
    single layers were compiled.

    Raises:
        ArchitectureMismatchError: naming the key and the wrapper.
    """
    for key in given if missing else ():
        inner = str(key)
        for prefix in PREFIXES:
            inner = inner.replace(prefix, "")
        if inner != key and inner in missing:
            wrappers = " and ".join(made for p, made in PREFIXES.items() if p in str(key))
            raise ArchitectureMismatchError(
                f"{which}: expected {inner!r}, which the symmetry moves, found {key!r}, as "
                f"{wrappers} names it; give the state dict of the model that was analysed"
            )


def explain_missing(names: Sequence[str], given: Mapping[str, object], which: str) -> str:
    """Why a mapping has none of the names: what is likely, and what to do."""
    keys = [key for key in given if isinstance(key, str)]
    found = f"found {keys[0]!r}" if keys else "found nothing"
    start = f"{which}: expected tensors of the names of the symmetry, as {names[0]!r}, {found}"
    for key in keys:
        for name in names:
            if key.endswith(f".{name}"):
                prefix = key.removesuffix(name)
                wrappers = [made for p, made in PREFIXES.items() if p in prefix]
                by = f", which {' and '.join(wrappers)} put there" if wrappers else ""
                return (
                    f"{start}: the names begin with {prefix!r}{by}; take it off, "
                    f"{{k.removeprefix({prefix!r}): v for k, v in ....items()}}"
                )
            if name.endswith(f".{key}"):
                prefix = name.removesuffix(key)
                return (
                    f"{start}: the symmetry was found for a model that wraps this one, and its "
                    f"names begin with {prefix!r}; put that in front, or analyse the inner model"
                )
    nested = [key for key in keys if isinstance(given[key], Mapping)]
    if nested:
        return f"{start}: this is a checkpoint; give the state dict in it, as [{nested[0]!r}]"
    return f"{start}; give the state dict of the model that was analysed"


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
    check_model(model, which)
    parameters = dict(model.named_parameters())
    if not parameters and isinstance(model, torch.jit.ScriptModule):
        raise InvalidParameterError(
            f"{which} has no parameters: torch.jit.freeze has made constants of them; give the "
            "module that was frozen, or better the Python module that it was made of"
        )
    if not parameters:
        raise InvalidParameterError(
            f"{which} has no parameters, so there is nothing to permute; "
            "was the right module passed?"
        )
    devices: dict[torch.device, str] = {}
    for name, tensor in parameters.items():
        problem = _problem_of(tensor)
        if not problem and not is_finite(tensor):
            problem = "holds nan or inf; repair or retrain the model first"
        if not problem:
            devices.setdefault(tensor.device, name)
            continue
        raise InvalidParameterError(f"parameter {name!r} of {which} {problem}")
    if len(devices) > 1:
        where = ", ".join(f"{name!r} on {device}" for device, name in devices.items())
        raise InvalidParameterError(
            f"the parameters of {which} lie on several devices ({where}); "
            "move the model to one device first"
        )


def _problem_of(tensor: torch.Tensor) -> str:
    """Why the entries of a tensor cannot be moved; nothing if they can."""
    if isinstance(tensor, nn.parameter.UninitializedParameter):
        return "is not initialised yet; run the model once first"
    if isinstance(tensor, FakeTensor):
        return "is a FakeTensor and has no values; load the weights first"
    if tensor.device.type == "meta":
        return "is on the meta device and has no values; load the weights first"
    if tensor.is_quantized:
        return f"is quantised ({tensor.dtype}); permute the model before quantising it"
    if tensor.layout != torch.strided:
        return f"is sparse ({tensor.layout}); call .to_dense() on it first"
    if tensor.is_floating_point() and tensor.dtype.itemsize < 2:
        return f"is stored in {tensor.dtype}; call .to(torch.bfloat16) on the model first"
    return ""


def check_same_architecture(
    model_b: nn.Module, model_a: nn.Module, *, is_part: bool = False
) -> None:
    """Refuse pairs of models that do not have the same parameters and buffers.

    Where ``is_part``, model B may lack some: it is what a captured graph uses of a model.

    Raises:
        ArchitectureMismatchError: naming the first tensor that differs, and both shapes.
    """
    one, other = stored_tensors(model_b), stored_tensors(model_a)
    if is_part:
        other = {name: tensor for name, tensor in other.items() if name in one}
    check_same_tensors(one, other, named=("model B", "model A"))


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
