"""Activation matching as an objective of state dicts, for whatever aligns and merges these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..matching.inner_products import InnerProducts
from ..models.copying import deep_copy
from ..models.validation import check_model, check_same_tensors, check_state_dict, check_tensor
from ..symmetry.group import Symmetry
from .activation_matching import activations


def activations_of(
    symmetry: Symmetry,
    b: Mapping[str, torch.Tensor],
    a: Mapping[str, torch.Tensor],
    /,
    *,
    model: nn.Module,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    device: torch.device | str | None = None,
) -> InnerProducts:
    """Compare what a model computes with two state dicts; see :func:`activations`.

    >>> import torch, fxrebasin as fr
    >>> from functools import partial
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    >>> a, x = model.state_dict(), torch.randn(64, 4)
    >>> symmetry = fr.analyze(model, args=(x,))
    >>> hidden = fr.Permutation.random(symmetry, torch.Generator().manual_seed(0))
    >>> by_activations = partial(fr.objectives.activations_of, model=model, args=(x,))
    >>> found = fr.match(
    ...     symmetry, hidden.apply(a), to=a, objective=by_activations, progress=False
    ... )
    >>> found == hidden.inverse()
    True

    Args:
        symmetry: the group to align over.
        b: the state dict that is permuted; not changed.
        a: the state dict it is aligned with; not changed.
        model: what has such state dicts; copies of it are run.
        args, kwargs: what it is run on.
        device: where the activations are compared; by default where the model is.

    Raises:
        ArchitectureMismatchError: a state dict has other tensors than the model.
        TraceError, InvalidInputError, InvalidArgumentError: see :func:`activations`.

    Warns:
        UnmatchedBlocksWarning: see :func:`activations`.
    """
    check_model(model, "model")
    loaded_b, loaded_a = _loaded(model, b, "b"), _loaded(model, a, "a")
    return activations(symmetry, loaded_b, loaded_a, args, kwargs, device=device)


def _loaded(model: nn.Module, state: Mapping[str, torch.Tensor], name: str) -> nn.Module:
    """A copy of a model with other tensors.

    Raises:
        ArchitectureMismatchError: there are no such tensors.
    """
    check_state_dict(state, name)
    copied = deep_copy(model)
    slots = {n: t for n, t in copied.state_dict().items() if isinstance(t, torch.Tensor)}
    check_same_tensors(slots, state, named=("the model", name))
    with torch.no_grad():
        for key, slot in slots.items():
            check_tensor(state[key], f"{name}[{key!r}]")
            slot.copy_(state[key])
    return copied
