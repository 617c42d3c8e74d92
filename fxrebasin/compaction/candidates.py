"""Which units may be cut out: those that weights of zeros lead to, or lead away from.

Zeros are where the search begins, not what decides. Whether a unit is needed is seen by running the
model without it (``search.py``); zeros only say which units to try, and in which order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..symmetry.parts import Group
from .unit_weights import UnitWeights, weights_of_units

Chosen = dict[str, NDArray[np.bool_]]
"""Per block, which of its units; of shape ``(count, size)``."""


class Candidates(NamedTuple):
    """Units that may be cut out."""

    likely: Chosen
    """All that writes them, or all that reads them, is zero."""
    possible: Chosen
    """Something that writes, reads or scales them is zero, and they are not among the others."""


def find_candidates(symmetry: Group, tensors: Mapping[str, torch.Tensor]) -> Candidates:
    """The units of every block that weights of zeros belong to.

    >>> import torch, fxrebasin as fr
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    >>> _ = net[2].weight.data[:, 1].zero_()
    >>> symmetry = fr.analyze(net, args=(torch.zeros(1, 2),))
    >>> find_candidates(symmetry, net.state_dict()).likely["0.weight[0]"]
    array([[False,  True, False]])
    """
    likely, possible = Chosen(), Chosen()
    for name, weights in weights_of_units(symmetry, tensors).items():
        shape = (weights.block.count, weights.block.size)
        surely = _all_zero(weights, weights.written) | _all_zero(weights, weights.read)
        perhaps = _any_zero(weights) & ~surely
        if surely.any():
            likely[name] = surely.reshape(shape)
        if perhaps.any():
            possible[name] = perhaps.reshape(shape)
    return Candidates(likely, possible)


def _zeros(tensor: torch.Tensor) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (tensor == 0).all(dim=1).cpu().numpy()
    return found


def _all_zero(weights: UnitWeights, tensors: Mapping[str, torch.Tensor]) -> NDArray[np.bool_]:
    if not tensors:
        return np.zeros(weights.block.units, dtype=bool)
    return np.logical_and.reduce([_zeros(t) for t in tensors.values()])


def _any_zero(weights: UnitWeights) -> NDArray[np.bool_]:
    """A bias of zero says nothing: most models begin with it."""
    others = {k: t for k, t in weights.other.items() if "bias" not in k.rpartition(".")[2]}
    tensors = {**weights.written, **weights.read, **others}
    found = [np.zeros(weights.block.units, dtype=bool), *(_zeros(t) for t in tensors.values())]
    return np.logical_or.reduce(found)
