"""Means of permuted models, kept up to date while models join and leave.

A mean is updated tensor by tensor, so that of all models only one tensor is needed at a time: a
model may be a checkpoint that is read from disk when it is indexed.

>>> import torch
>>> from fxrebasin import Symmetry
>>> mean = RunningMean(Symmetry({}, ()))
>>> for value in (1.0, 3.0, 8.0):
...     mean.include({"bias": torch.tensor([value])}, as_it_is, weight=1.0)
>>> mean["bias"]
tensor([4.])
>>> mean.exclude({"bias": torch.tensor([8.0])}, as_it_is, weight=1.0)
>>> mean["bias"]
tensor([2.])
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..errors import ArchitectureMismatchError
from ..models.validation import check_tensor, is_finite
from ..symmetry.group import Symmetry
from ..symmetry.parts import ParameterSymmetry

State = Mapping[str, Tensor]
Move = Callable[[ParameterSymmetry, Tensor], Tensor]
"""How a tensor that moves is permuted, as :meth:`fxrebasin.Permutation.permute` does it."""


def as_it_is(moves: ParameterSymmetry, tensor: Tensor) -> Tensor:
    """Nothing is permuted."""
    return tensor


class RunningMean(dict[str, Tensor]):
    """The weighted mean of permuted models: a state dict, in float32 or more.

    Where all models agree, it is exact. What is not of floating point is that of the first model,
    and tensors that are one in the first model are one here.

    Args:
        symmetry: how tensors move.
        device: where the mean is; by default where the first model is.
    """

    def __init__(self, symmetry: Symmetry, device: torch.device | None = None) -> None:
        super().__init__()
        self.symmetry = symmetry
        self.device = device
        self.total = 0.0
        """The sum of the weights."""
        self._moves = {name: p for p in symmetry.parameters for name in p.names}
        self._tied: dict[str, str] = {}

    def include(self, state: State, move: Move, weight: float) -> None:
        """A model joins.

        Raises:
            ArchitectureMismatchError: it has other tensors than those before.
            InvalidArgumentError, InvalidParameterError: a tensor is none, or is sparse, ...
        """
        total = self.total + weight
        if self:
            self._shift(state, move, weight / total if total else 0.0)
        else:
            self._begin(state, move)
        self.total = total

    def exclude(self, state: State, move: Move, weight: float) -> None:
        """A model that had joined, moved like this, leaves; some weight has to stay."""
        total = self.total - weight
        assert total > 0
        self._shift(state, move, -weight / total)
        self.total = total

    def finish(self, first: State, move: Move) -> dict[str, Tensor]:
        """The mean with the keys, order, dtypes and devices of the first model, which moves like
        this. What is not averaged is taken from it. The running mean is used up.
        """
        result = copy.copy(first) if isinstance(first, dict) else {}
        for name in first:
            tensor = first[name]
            if name in self._tied:
                result[name] = result[self._tied[name]]
            elif is_averaged(tensor):
                result[name] = self.pop(name).to(tensor.device, tensor.dtype)
            elif isinstance(tensor, Tensor):
                result[name] = self._moved(name, tensor, move).clone()
            else:
                result[name] = tensor
        self.clear()
        return result

    def _begin(self, state: State, move: Move) -> None:
        for name in state:
            tensor = state[name]
            self._check(name, tensor)
            if not isinstance(tensor, Tensor):
                self[name] = tensor
                continue
            owner = self._owner_of(name, tensor, state)
            if owner is not None:
                self._tied[name], self[name] = owner, self[owner]
                continue
            dtype = tensor.dtype
            if is_averaged(tensor):
                dtype = torch.promote_types(dtype, torch.float32)
            moved = self._moved(name, tensor, move)
            self[name] = moved.to(device=self.device, dtype=dtype, copy=True)

    def _owner_of(self, name: str, tensor: Tensor, state: State) -> str | None:
        """The name before this one that stands for the same tensor. Both are held meanwhile: one
        that is read from disk and freed may leave its place to the next."""
        others = self._moves[name].names if name in self._moves else ()
        return next((n for n in others if n in self and is_same_memory(tensor, state[n])), None)

    def _shift(self, state: State, move: Move, share: float) -> None:
        for name, mean in self.items():
            if not is_averaged(mean):
                continue
            tensor = state[name]
            self._check(name, tensor, like=mean)
            if name in self._tied:
                check_tied(state, name, self._tied[name])
            elif share:
                towards_(mean, self._moved(name, tensor, move), share)

    def _moved(self, name: str, tensor: Tensor, move: Move) -> Tensor:
        moves = self._moves.get(name)
        tensor = tensor.detach()
        return move(moves, tensor) if moves is not None and moves.groups else tensor

    def _check(self, name: str, tensor: object, like: Tensor | None = None) -> None:
        """Refuse a tensor that cannot be permuted or averaged with the others."""
        moves = self._moves.get(name)
        if like is None and moves is None and not is_averaged(tensor):
            return
        if like is not None or is_averaged(tensor) or (moves is not None and moves.groups):
            check_tensor(tensor, f"{name!r} of one of the models")
        if not isinstance(tensor, Tensor):
            return
        shape = (
            moves.shape
            if moves is not None
            else tuple(tensor.shape if like is None else like.shape)
        )
        if tuple(tensor.shape) != shape:
            raise ArchitectureMismatchError(
                f"{name!r} has shape {tuple(tensor.shape)} in one of the models, but the symmetry "
                f"was found for, or the first model has, shape {shape}; all models must have the "
                "same architecture"
            )
        if like is not None and not is_averaged(tensor):
            raise ArchitectureMismatchError(
                f"{name!r} is {tensor.dtype} in one of the models, but of floating point in the "
                "first; convert one of the models first"
            )


def is_averaged(tensor: object) -> bool:
    """Is it a tensor of numbers with fractions? All others are taken from the first model."""
    return isinstance(tensor, Tensor) and (tensor.is_floating_point() or tensor.is_complex())


def towards_(mean: Tensor, tensor: Tensor, share: float | Tensor) -> None:
    """Move a mean towards a tensor by a share of the way, in place; where they are equal, infinite
    entries too, it stays."""
    tensor = tensor.to(mean.device, mean.dtype)
    way = tensor - mean
    if not is_finite(way):
        way[tensor == mean] = 0
    mean += way.mul_(share)


def is_same_memory(one: Tensor, other: Tensor) -> bool:
    """Are two tensors the same entries, so that writing to one writes to the other?"""
    return (
        one.device == other.device
        and one.data_ptr() == other.data_ptr()
        and one.shape == other.shape
        and one.stride() == other.stride()
        and one.numel() > 0
    )


def check_tied(state: State, name: str, owner: str) -> None:
    """Refuse a model in which two names are different tensors that are one in the first.

    Raises:
        ArchitectureMismatchError: naming both.
    """
    one, other = state[name], state[owner]
    if not is_same_memory(one, other) and not torch.equal(one, other):
        raise ArchitectureMismatchError(
            f"{name!r} and {owner!r} are one tensor in the first model, but have different values "
            "in another; untie them in the first, or tie them in all"
        )
