"""Parents and what is merged of them, and statistics that are measured without the library."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def parents(make: Callable[[], nn.Module], count: int = 2, seed: int = 0) -> list[Any]:
    """Models of one architecture, each with weights, biases and statistics of its own."""
    made: list[Any] = []
    for k in range(count):
        torch.manual_seed(1000 * seed + k)
        model = make()
        for name, tensor in model.named_buffers():
            if name.endswith("running_var"):
                tensor.copy_(torch.rand_like(tensor) + 0.5)
            elif name.endswith("running_mean"):
                tensor.copy_(torch.randn_like(tensor))
        made.append(model.eval())
    return made


def mean_of(models: Sequence[nn.Module], weights: Sequence[float] | None = None) -> Any:
    """The weighted mean of models in weight space."""
    shares = weights or [1 / len(models)] * len(models)
    merged = copy.deepcopy(models[0])
    states = [model.state_dict() for model in models]
    merged.load_state_dict(
        {
            name: sum(s * state[name] for s, state in zip(shares, states, strict=True))
            if tensor.is_floating_point()
            else tensor
            for name, tensor in states[0].items()
        }
    )
    return merged


LAYERS = (nn.Linear, nn.modules.conv._ConvNd)


@torch.no_grad()
def statistics(
    model: nn.Module, data: Iterable[Any], inputs: Sequence[str] = ()
) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and standard deviation per channel of what layers compute, in one piece.

    Of the packed projection of attention as well, where every of its inputs is the same tensor; of
    the modules among ``inputs`` of what they are given.
    """
    seen: dict[str, list[Tensor]] = {}

    def watch(name: str, module: nn.Module) -> Callable[..., None]:
        def hook(_: nn.Module, given: tuple[Tensor, ...], result: Any) -> None:
            if isinstance(module, nn.MultiheadAttention):
                projected = nn.functional.linear(
                    given[0], module.in_proj_weight, module.in_proj_bias
                )
                seen.setdefault(f"{name}.in_proj_weight", []).append(_rows(module, projected))
                out = module.out_proj
                seen.setdefault(f"{name}.out_proj", []).append(_rows(out, result[0]))
            else:
                value = given[0] if name in inputs else result
                seen.setdefault(name, []).append(_rows(module, value))

        return hook

    handles = []
    modes = {module: module.training for module in model.modules()}
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        for name, module in model.named_modules():
            if isinstance(module, (*LAYERS, nn.MultiheadAttention)) or name in inputs:
                handles.append(module.register_forward_hook(watch(name, module), always_call=False))
        model.eval()
        for batch in data:
            model(batch)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
        torch.backends.mha.set_fastpath_enabled(fast)
    rows = {name: torch.cat(values, 1).double() for name, values in seen.items()}
    return {name: (x.mean(1), x.std(1, correction=0)) for name, x in rows.items()}


def _rows(module: nn.Module, value: Tensor) -> Tensor:
    """One row per channel."""
    last = isinstance(module, (nn.Linear, nn.LayerNorm, nn.MultiheadAttention))
    return value.movedim(-1 if last else 1, 0).flatten(1)
