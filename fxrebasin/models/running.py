"""Run a module as in evaluation, and leave no trace of it.

Two modules are compared by what ``run`` returns for them: both see copies of the same inputs and
the same random numbers. Modes, random state and settings of torch are afterwards what they were;
what forward writes to the module itself stays, so give it a copy where that matters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from .outputs import output_tensors

SEED = 0x5EED


def run(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[torch.Tensor]:
    """The tensors that a model returns in eval mode, from copies of the inputs and one seed."""
    with unobserved(model):
        reseed(model)
        outputs = model(*clone_tensors(args), **clone_tensors(kwargs))
        return [t.detach() for t in output_tensors(outputs)]


@contextmanager
def unobserved(model: nn.Module, *, gradients: bool = False) -> Iterator[None]:
    """Run a module in eval mode, by default without gradients, leaving no trace in it.

    Its modes and the random state are restored afterwards.
    """
    modes = {module: module.training for module in model.modules()}
    devices = cuda_devices(model)
    fast = torch.backends.mha.get_fastpath_enabled()
    model.eval()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.set_grad_enabled(gradients), torch.random.fork_rng(devices=devices):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, mode in modes.items():
            module.training = mode


def reseed(model: nn.Module) -> None:
    """Give both modules one random state, and not the one that the model was traced in: random
    numbers that tracing baked in must not come out right by chance."""
    torch.default_generator.manual_seed(SEED)
    for device in {p.device for p in model.parameters() if p.device.type == "cuda"}:
        torch.cuda.default_generators[device.index].manual_seed(SEED)


def clone_tensors(inputs: Any) -> Any:
    return tree_map_only(torch.Tensor, lambda t: t.detach().clone(), inputs)


def cuda_devices(model: nn.Module) -> list[int]:
    return sorted({t.device.index for t in model.parameters() if t.device.type == "cuda"})
