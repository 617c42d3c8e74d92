"""The models that are merged, however they are given: as modules, state dicts, or files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import refuse
from ..checkpoints.opening import open_checkpoint
from ..models.copying import deep_copy, set_modes
from ..models.validation import check_parameters, check_same_tensors, check_state_dict
from ..symmetry.group import Symmetry
from ..symmetry.parts import ParameterSymmetry
from ..symmetry.transform import Transform
from .average import State
from .tensors import tensors_of

Parent = nn.Module | State | str | os.PathLike[str]
"""A module, a state dict, or the path of a checkpoint, which is read when it is needed."""


@dataclass(frozen=True, eq=False)
class Parents:
    """State dicts, and the module that they can be loaded into."""

    template: nn.Module | None
    """The first module among what was given."""
    states: tuple[State, ...]

    def __len__(self) -> int:
        return len(self.states)

    @property
    def device(self) -> torch.device:
        """Where the module is."""
        assert self.template is not None
        return next((p.device for p in self.template.parameters()), torch.device("cpu"))

    def module(self, state: State) -> nn.Module:
        """A module of its own with these weights, in evaluation mode."""
        assert self.template is not None
        module = deep_copy(self.template)
        with torch.no_grad():
            for name, slot in tensors_of(module).items():
                slot.copy_(state[name])
        set_modes(module, False)
        return module


def gather_parents(models: object) -> Parents:
    """Give the parents that a list of models names.

    Raises:
        InvalidArgumentError: it is no list of two models or more.
        ArchitectureMismatchError: one has other tensors than the first module.
        InvalidParameterError: a tensor cannot be permuted.
        FileFormatError, OSError: a checkpoint cannot be read.
    """
    expected = "a list of two models or more: modules, state dicts, or paths of checkpoints"
    single = isinstance(models, (str, bytes, Mapping, nn.Module))
    if single or not isinstance(models, Sequence) or len(models) < 2:
        refuse("models", expected, models, "give [model_a, model_b]")
    template = next((m for m in models if isinstance(m, nn.Module)), None)
    states = tuple(_state_of(model, f"models[{k}]") for k, model in enumerate(models))
    if template is not None:
        known = tensors_of(template)
        for k, state in enumerate(states):
            check_same_tensors(known, state, named=("the first module", f"models[{k}]"))
    return Parents(template, states)


def _state_of(model: Any, name: str) -> State:
    if isinstance(model, nn.Module):
        check_parameters(model, name)
        return tensors_of(model)
    if isinstance(model, (str, os.PathLike)):
        return open_checkpoint(model)
    if not isinstance(model, Mapping):
        refuse(name, "a module, a state dict, or the path of a checkpoint", model)
    check_state_dict(model, name)
    return model


class Permuted(Mapping[str, Tensor]):
    """A state dict as a permutation leaves it, tensor by tensor, when it is indexed."""

    def __init__(self, state: State, permutation: Transform) -> None:
        self.state, self.permutation = state, permutation
        self._moves = _moves_of(permutation.symmetry)

    def __getitem__(self, name: str) -> Tensor:
        tensor, moves = self.state[name], self._moves.get(name)
        return tensor if moves is None else self.permutation.move(moves, tensor.detach())

    def __iter__(self) -> Iterator[str]:
        return iter(self.state)

    def __len__(self) -> int:
        return len(self.state)


def _moves_of(symmetry: Symmetry) -> dict[str, ParameterSymmetry]:
    return {name: p for p in symmetry.parameters if p.groups for name in p.names}
