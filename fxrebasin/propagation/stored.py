"""The tensors that a model stores, known by identity, and fresh units for their axes."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace

import torch
from torch import nn

from ..layouts.grouped_axes import Groups, name_in_groups
from ..layouts.layout import Parameter
from ..layouts.units import Units
from ..models.copying import attributes
from ..models.reachable import reachable_tensors
from .movable import why_it_stays


@dataclass(frozen=True)
class Stored:
    """A tensor that a module stores, with all its names."""

    tensor: torch.Tensor
    names: list[str]
    is_buffer: bool
    is_statistic: bool = False
    """Running statistics, as of BatchNorm and of quantisation, singular vectors of weights, and
    masks with which these are pruned belong to units."""
    is_asked: bool = False
    """The user has said that this buffer belongs to units, as parameters do."""
    could_move: bool = False
    """Would it, if the user said so?"""

    @property
    def moves(self) -> bool:
        return not self.is_buffer or self.is_statistic or self.is_asked


def find_stored(model: nn.Module, movable: Container[str] = ()) -> list[Stored]:
    """Every parameter and buffer, known by identity.

    ``movable`` are the names of buffers that belong to units because the user says so.
    """
    found: dict[int, Stored] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        found.setdefault(id(parameter), Stored(parameter, [], False)).names.append(name)
    for name, tensor in model.named_buffers(remove_duplicate=False):
        owner = model.get_submodule(name.rpartition(".")[0])
        leaf = name.rpartition(".")[2]
        statistic = _is_mask(owner, leaf) or (
            tensor.is_floating_point() and _is_statistic(owner, leaf)
        )
        could_move = not statistic and not why_it_stays(model, name, tensor)
        asked = could_move and name in movable
        stored = found.get(id(tensor), Stored(tensor, [], True))
        if stored.is_buffer:
            stored = replace(
                stored,
                is_statistic=stored.is_statistic or statistic,
                is_asked=stored.is_asked or asked,
                could_move=stored.could_move or could_move,
            )
        stored.names.append(name)
        found[id(tensor)] = stored
    return list(found.values())


def find_loaded(model: nn.Module) -> list[torch.Tensor]:
    """Tensors in plain attributes of modules that say themselves how state is saved and loaded:
    another state dict may fill them with other values."""
    found = []
    for module in model.modules():
        saves = ("set_extra_state", "_load_from_state_dict")
        own = any(getattr(type(module), n) is not getattr(nn.Module, n) for n in saves)
        if (own or module._load_state_dict_pre_hooks) and not _is_of_torch(module):
            found += reachable_tensors(attributes(module))
    return found


def _is_of_torch(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.")


def _is_statistic(owner: nn.Module, name: str) -> bool:
    """Is a buffer one of running statistics, the range or scale of what is quantised in training,
    or a singular vector that spectral norm follows?"""
    stem = name[:-1] if name.endswith(("_u", "_v")) else None
    names = owner._buffers.keys()
    pair = {f"{stem}u", f"{stem}v"} <= names
    of_range = name in ("min_val", "max_val") or (name == "scale" and "fake_quant_enabled" in names)
    return pair or of_range or not names.isdisjoint(("running_mean", "running_var"))


def _is_mask(owner: nn.Module, name: str) -> bool:
    """Is a buffer the mask that ``torch.nn.utils.prune`` multiplies a weight with?

    Such weights go by another name: ``weight_orig``, and ``weight_mask`` beside it.
    """
    if not name.endswith("_mask") or name in owner._non_persistent_buffers_set:
        return False
    weight = owner._parameters.get(f"{name.removesuffix('_mask')}_orig")
    mask = owner._buffers[name]
    return weight is not None and mask is not None and weight.shape == mask.shape


def make_parameters(stored: list[Stored], units: Units, groups: Groups) -> list[Parameter]:
    parameters = [
        Parameter(
            tuple(s.names),
            tuple(s.tensor.shape),
            s.is_buffer and not (s.is_asked and s.tensor.dtype != torch.bool),
            tuple(units.fresh(n) for n in s.tensor.shape),
        )
        for s in stored
    ]
    for parameter in parameters:
        name_in_groups(units, parameter, groups)
    return parameters
