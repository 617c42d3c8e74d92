"""Run a module as in evaluation, and leave no trace of it.

Two modules are compared by what ``run`` returns for them: both see copies of the same inputs and
the same random numbers. Modes, random state and settings of torch are afterwards what they were;
what forward writes to the module itself stays, so give it a copy where that matters. No code of the
user's runs but ``forward``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch._subclasses import FakeTensor

from ..errors import InvalidInputError
from .copying import set_modes
from .exclusive import exclusive
from .outputs import Returned, require_tensors, returned
from .randomness import SEED, OwnRandomness, keeping_random_state, seed_python
from .reachable import copy_with, reachable_tensors
from .surroundings import default_device_for, neutral, unwinding


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
def unobserved(
    model: nn.Module, *, gradients: bool = False, seed: int | None = SEED
) -> Iterator[None]:
    """Run a module in eval mode, by default without gradients, leaving no trace in it.

    Its modes and settings of torch are restored afterwards, and so are the tensors that its
    parameters stand for, their gradients, and whether they want any. Random numbers are the same in
    every run, and not those that the model was traced with: what tracing baked in must not come out
    right by chance. Where ``seed`` is None nothing is drawn, as when only shapes are computed.
    """
    modes = {module: module.training for module in model.modules()}
    with ExitStack() as stack:
        for context in (
            neutral(),
            exclusive(),
            unwinding(),
            keeping_random_state(model),
            _same_tensors(model),
        ):
            stack.enter_context(context)
        stack.callback(_restore_modes, modes)
        set_modes(model, False)
        torch.backends.mha.set_fastpath_enabled(False)
        stack.enter_context(default_device_for(model))
        stack.enter_context(torch.set_grad_enabled(gradients))
        if seed is not None:
            seed_python(seed)
            stack.enter_context(OwnRandomness(seed))
        yield


def _restore_modes(modes: Mapping[nn.Module, bool]) -> None:
    for module, mode in modes.items():
        module.training = mode


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
                if tensor.requires_grad != requires_grad:
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


def clone_tensors(inputs: Any) -> Any:
    """A copy of nested inputs, objects that forward may write to included, such as caches.

    Raises:
        InvalidInputError: a tensor has no values of its own, as inside ``torch.vmap``.
    """
    return copy_with(inputs, _clone)


def _clone(tensor: torch.Tensor) -> torch.Tensor:
    if is_functorch_wrapped_tensor(tensor):
        raise InvalidInputError(
            "an example input belongs to torch.vmap or another transform of torch.func; "
            "call this outside of it, with a plain tensor"
        )
    if isinstance(tensor, FakeTensor):
        raise InvalidInputError(
            "an example input is a FakeTensor and has no values; make it outside FakeTensorMode"
        )
    return tensor.detach().clone()
