"""Run a module as in evaluation, and leave no trace of it.

Two modules are compared by what ``run`` returns for them: both see copies of the same inputs and
the same random numbers. Modes, random state and settings of torch are afterwards what they were;
what forward writes to the module itself stays, so give it a copy where that matters. No code of the
user's runs but ``forward``.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from .copying import set_modes
from .outputs import Returned, require_tensors, returned
from .reachable import copy_with, reachable_tensors

SEED = 0x5EED


def run(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[torch.Tensor]:
    """The tensors that a model returns in eval mode, from copies of the inputs and one seed."""
    found = run_whole(model, args, kwargs)
    return [*found.tensors, *found.written]


def run_whole(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Returned:
    """The same, and what else it returns.

    Raises:
        InvalidInputError: no tensor is returned or written.
    """
    with unobserved(model):
        reseed(model)
        given = clone_tensors((tuple(args), dict(kwargs)))
        before = {id(t): (t, t.clone()) for t in reachable_tensors(given)}
        value = model(*given[0], **given[1])
        found = returned(value)
        written = [t for t in reachable_tensors(given) if _was_written(t, before)]
        require_tensors([*found.tensors, *written], model, value)
        tensors = [t.detach() for t in found.tensors]
        return Returned(tensors, found.paths, found.others, tuple(t.detach() for t in written))


def _was_written(
    tensor: torch.Tensor, before: dict[int, tuple[torch.Tensor, torch.Tensor]]
) -> bool:
    if id(tensor) not in before:
        return True
    value = before[id(tensor)][1]
    if tensor.layout != torch.strided:
        return False
    return tensor.shape != value.shape or not bool(((tensor == value) | (tensor != tensor)).all())


@contextmanager
def unobserved(model: nn.Module, *, gradients: bool = False) -> Iterator[None]:
    """Run a module in eval mode, by default without gradients, leaving no trace in it.

    Its modes, the random state and torch's defaults are restored afterwards, and so are the
    tensors that its parameters stand for, their gradients, and whether they want any.
    """
    modes = {module: module.training for module in model.modules()}
    set_modes(model, False)
    try:
        with (
            torch.set_grad_enabled(gradients),
            _same_settings(),
            same_random_state(cuda_devices(model)),
            _same_tensors(model),
        ):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def _same_settings() -> Iterator[None]:
    fast, dtype = torch.backends.mha.get_fastpath_enabled(), torch.get_default_dtype()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch.set_default_dtype(dtype)


@contextmanager
def same_random_state(devices: list[int]) -> Iterator[None]:
    """Python's and numpy's as well: some models draw from these."""
    python, arrays = random.getstate(), np.random.get_state()  # noqa: NPY002 - what models use
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)  # noqa: NPY002


@contextmanager
def _same_tensors(model: nn.Module) -> Iterator[None]:
    """What parameters and buffers are; not the numbers in them."""
    held = [
        (t, t.detach(), t.requires_grad, t.grad if t.is_leaf else None)
        for t in [*model.parameters(), *model.buffers()]
    ]
    try:
        for tensor, _, _, grad in held:
            if grad is not None:
                tensor.grad = None
        yield
    finally:
        for tensor, data, requires_grad, grad in held:
            if not _is_same_memory(tensor, data):
                tensor.data = data
            if tensor.is_leaf:
                tensor.requires_grad_(requires_grad)
                if tensor.grad is not grad:
                    tensor.grad = grad


def _is_same_memory(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.layout != torch.strided or other.layout != torch.strided:
        return True
    return bool(
        one.dtype == other.dtype
        and one.shape == other.shape
        and one.stride() == other.stride()
        and one.untyped_storage()._cdata == other.untyped_storage()._cdata
        and one.storage_offset() == other.storage_offset()
    )


def reseed(model: nn.Module) -> None:
    """Give both modules one random state, and not the one that the model was traced in: random
    numbers that tracing baked in must not come out right by chance."""
    random.seed(SEED)
    np.random.seed(SEED)  # noqa: NPY002
    torch.default_generator.manual_seed(SEED)
    for device in {p.device for p in model.parameters() if p.device.type == "cuda"}:
        torch.cuda.default_generators[device.index].manual_seed(SEED)


def clone_tensors(inputs: Any) -> Any:
    """A copy of nested inputs, objects that forward may write to included, such as caches."""
    return copy_with(inputs, lambda t: t.detach().clone())


def cuda_devices(model: nn.Module) -> list[int]:
    return sorted({t.device.index for t in model.parameters() if t.device.type == "cuda"})
