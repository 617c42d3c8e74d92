"""A copy of a model with random weights, on which one permutation after another is put.

Weights may take much more time than a forward pass: to draw them, to copy them, to move them. So
they are drawn once, each permutation is reached from the one before it in place, and copies that
are run share them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ..models.copying import copy_sharing_parameters, deep_copy, forget_caches
from ..models.precision import to_double
from ..models.running import run
from ..models.validation import stored_tensors
from ..symmetry.transform import Transform
from .rounding import draw_like

DISTURBED = 0.3
"""By how much of its size a weight is disturbed."""

LARGE = 1 << 14
"""Tensors with more entries are disturbed by numbers of sixteen bits, which are drawn quicker."""

PIECE = 1 << 18
"""How many entries are disturbed at a time: what is drawn for them stays in the cache."""


class RandomWeights:
    """A model whose weights were disturbed, to be run under permutations of them.

    Args:
        model: whose copy it is; not changed.
        double: in float64.
        disturbed: with other weights than the model's own.
        seed: of these weights.
        moving: the names of what the group moves: buffers among them are disturbed as well.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        double: bool,
        disturbed: bool,
        seed: int,
        moving: Collection[str] = (),
    ) -> None:
        self.double = double
        copied = deep_copy(model, {id(p): _copied(p) for p in model.parameters() if _is_plain(p)})
        self._model = to_double(copied) if double else copied
        if disturbed:
            disturb(self._model, seed, moving)
            forget_caches(self._model)
        self._at: Transform | None = None
        self._writes: bool | None = None
        """Does forward write to parameters? Then copies that are run have their own."""

    @property
    def model(self) -> nn.Module:
        """The model itself, no unit moved; not to be run, only copies of it."""
        self._move_to(None)
        return self._model

    def run(
        self, permutation: Transform | None, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> list[torch.Tensor]:
        """What a fresh copy of the model returns, permuted if a permutation is given."""
        self._move_to(permutation)
        if self._writes is None:
            before = _totals(self._model)
            found = run(copy_sharing_parameters(self._model), args, kwargs)
            self._writes = before != _totals(self._model)
            if not self._writes:
                return found
        copied = (deep_copy if self._writes else copy_sharing_parameters)(self._model)
        return run(copied, args, kwargs)

    def _move_to(self, permutation: Transform | None) -> None:
        """From where the last permutation has brought the units, which is not undone before."""
        at, self._at = self._at, permutation
        if permutation is None:
            step = at.inverse() if at is not None else None
        elif at is None:
            step = permutation
        elif at.symmetry is permutation.symmetry:
            step = permutation.compose(at.inverse())
        else:
            at.inverse().apply_(self._model)
            step = permutation
        if step is not None:
            step.apply_(self._model)


def _is_plain(parameter: nn.Parameter) -> bool:
    """Large, and with nothing to it but numbers in the memory of this machine."""
    return (
        type(parameter) is nn.Parameter
        and parameter.numel() > PIECE
        and parameter.device.type == "cpu"
        and parameter.is_contiguous()
        and not parameter.is_inference()
        and parameter.is_leaf
    )


def _copied(parameter: nn.Parameter) -> nn.Parameter:
    """A copy in memory that numpy asks for: in large pages, which are had much quicker."""
    size = parameter.numel() * parameter.element_size()
    memory = torch.from_numpy(np.empty(size, dtype=np.uint8)).view(parameter.dtype)
    copied = memory.view(parameter.shape).copy_(parameter.detach())
    return nn.Parameter(copied, parameter.requires_grad)


def _totals(model: nn.Module) -> list[tuple[int, float]]:
    """What shows that forward has written to parameters, ``.data`` of them included."""
    versions = (0 if p.is_inference() else p._version for p in model.parameters())
    sums = (float(_sample(p.detach()).double().sum()) for p in model.parameters())
    return list(zip(versions, sums, strict=True))


def disturb(model: nn.Module, seed: int, moving: Collection[str] = ()) -> None:
    """Disturb every weight by about a third of its size; the scale of the model stays.

    Freshly initialised models have weights that are all equal, which would hide that a
    permutation moves them wrongly. Buffers that move, such as masks and codebooks, may be so too;
    those that are positive throughout, as variances and scales have to be, stay so.
    """
    generator = torch.Generator().manual_seed(seed)
    quick = np.random.Generator(np.random.SFC64(seed))
    done = set()
    with torch.no_grad():
        for name, tensor in stored_tensors(model).items():
            is_weight = isinstance(tensor, nn.Parameter)
            is_statistic = name.endswith(("running_mean", "running_var"))
            if id(tensor) in done or not (is_weight or is_statistic or name in moving):
                continue
            done.add(id(tensor))
            if tensor.dtype == torch.bool and not is_weight:
                tensor.copy_(torch.rand(tensor.shape, generator=generator) < 0.5)
                continue
            if not tensor.is_floating_point():
                continue
            is_other = not (is_weight or is_statistic)
            if name.endswith("running_var") or (is_other and bool((tensor > 0).all())):
                tensor.mul_(draw_like(tensor, generator).abs().mul_(0.5).add_(0.5))
                continue
            scale = DISTURBED * (_spread(tensor) or max(float(tensor.abs().max()), 0.5))
            if tensor.numel() > LARGE and tensor.is_contiguous():
                _add_noise(tensor.view(-1), scale, quick)
            else:
                tensor.add_(draw_like(tensor, generator), alpha=scale)


def _spread(tensor: torch.Tensor) -> float:
    """The standard deviation of the entries, of large tensors that of a sample."""
    if tensor.numel() < 2:
        return 0.0
    return float(_sample(tensor).std()) or float(tensor.std())


def _sample(tensor: torch.Tensor) -> torch.Tensor:
    """All entries of a small tensor, and some from all over a large one."""
    if tensor.numel() <= PIECE or not tensor.is_contiguous():
        return tensor
    return tensor.view(-1)[:: tensor.numel() // LARGE | 1]


def _add_noise(flat: torch.Tensor, scale: float, quick: np.random.Generator) -> None:
    """Add uniform numbers of a standard deviation, piece by piece."""
    step = scale * 3**0.5 / (1 << 15)
    for piece in flat.split(PIECE):
        drawn = quick.integers(0, 1 << 64, -(-len(piece) // 4), dtype=np.uint64)
        noise = torch.from_numpy(drawn).view(torch.int16)[: len(piece)]
        piece.add_(noise.to(piece), alpha=step)
