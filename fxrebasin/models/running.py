"""Run a module as in evaluation, and leave no trace of it.

Two modules are compared by what ``run`` returns for them: both see copies of the same inputs and
the same random numbers. Modes, random state and settings of torch are afterwards what they were;
what forward writes to the module itself stays, so give it a copy where that matters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch._subclasses import FakeTensor
from torch.utils._pytree import tree_map_only

from ..errors import InvalidInputError
from .exclusive import exclusive
from .outputs import output_tensors
from .randomness import OwnRandomness, keeping_random_state
from .surroundings import default_device_for, neutral, unwinding


def run(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[torch.Tensor]:
    """The tensors that a model returns in eval mode, from copies of the inputs and one seed."""
    with unobserved(model):
        outputs = model(*clone_tensors(args), **clone_tensors(kwargs))
        return [t.detach() for t in output_tensors(outputs)]


@contextmanager
def unobserved(model: nn.Module, *, gradients: bool = False, draws: bool = True) -> Iterator[None]:
    """Run a module in eval mode, by default without gradients, leaving no trace in it.

    Its modes and settings of torch are restored afterwards. Random numbers are the same in every
    run, and not those that the model was traced with: what tracing baked in must not come out right
    by chance. Where ``draws`` is False nothing is drawn, as when only shapes are computed.
    """
    modes = {module: module.training for module in model.modules()}
    with ExitStack() as stack:
        for context in (neutral(), exclusive(), unwinding(), keeping_random_state(model)):
            stack.enter_context(context)
        stack.callback(_restore_modes, modes)
        model.eval()
        torch.backends.mha.set_fastpath_enabled(False)
        stack.enter_context(default_device_for(model))
        stack.enter_context(torch.set_grad_enabled(gradients))
        if draws:
            stack.enter_context(OwnRandomness())
        yield


def _restore_modes(modes: Mapping[nn.Module, bool]) -> None:
    for module, mode in modes.items():
        module.training = mode


def clone_tensors(inputs: Any) -> Any:
    """Nested inputs with tensors of their own.

    Raises:
        InvalidInputError: a tensor has no values of its own, as inside ``torch.vmap``.
    """
    return tree_map_only(torch.Tensor, _clone, inputs)


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
