"""Cut what is not needed out of the tensors of a model, and emit the graph that is left."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import fx, nn

from ..models.copying import deep_copy, forget_caches
from ..models.rebased import RebasedModule, emit
from ..models.validation import stored_tensors
from ..symmetry.action import Indices
from .graph_constants import Adapter
from .places import Places
from .plan import Plan, kept_on_axes

M = TypeVar("M", bound=nn.Module)


def cut(model: nn.Module, traced: fx.GraphModule, places: Places, plan: Plan) -> RebasedModule:
    """The graph without the units that a plan removes.

    Args:
        model: the module that was traced, permuted by the plan's permutation; its tensors become
            smaller.
        traced: its graph; not changed.
        places: where blocks lie in the values of that graph.
        plan: what is removed.

    Raises:
        NotABoxError: what is left of a tensor has no rectangular shape.
    """
    lost: dict[str, dict[int, Indices]] = {}
    for parameter in plan.permutation.symmetry.parameters:
        kept = kept_on_axes(parameter, plan)
        lost |= dict.fromkeys(parameter.names, kept) if kept else {}
    _shorten(model, lost)
    forget_caches(model)
    emitted = emit(model, traced)
    Adapter(emitted, places, plan).run()
    return emitted


def _shorten(model: nn.Module, kept: dict[str, dict[int, Indices]]) -> None:
    """Replace tensors by parts of them, in place; those that are tied stay tied."""
    done: dict[int, torch.Tensor] = {}
    for name, tensor in stored_tensors(model).items():
        if name not in kept:
            continue
        if id(tensor) not in done:
            done[id(tensor)] = _part(tensor, kept[name])
        owner, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(owner), leaf, done[id(tensor)])


def _part(tensor: torch.Tensor, kept: dict[int, Indices]) -> torch.Tensor:
    part = tensor.detach()
    for axis, places in kept.items():
        part = part.index_select(axis, torch.from_numpy(places).to(part.device))
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(part, requires_grad=tensor.requires_grad)
    return part


def with_other_weights(model: M, plan: Plan, seed: int) -> M:
    """A copy of a permuted model in which all that is not cut has other values; zeros stay zeros.

    What belongs to units that are cut stays as it is: that they are not needed is said of them.
    """
    generator = torch.Generator().manual_seed(seed)
    other = deep_copy(model)
    tensors = dict(other.named_parameters(remove_duplicate=False))
    described = {n: p for p in plan.permutation.symmetry.parameters for n in p.names}
    done: set[int] = set()
    with torch.no_grad():
        for name, tensor in tensors.items():
            if id(tensor) in done or not tensor.is_floating_point():
                continue
            done.add(id(tensor))
            factor = torch.rand(tensor.shape, generator=generator, dtype=torch.float32) + 0.5
            if name in described:
                kept = kept_on_axes(described[name], plan)
                lost = torch.ones(tensor.shape, dtype=torch.bool)
                lost[np.ix_(*(kept.get(a, range(n)) for a, n in enumerate(tensor.shape)))] = False
                factor[lost] = 1.0
            tensor.mul_(factor.to(tensor))
    forget_caches(other)
    return other
