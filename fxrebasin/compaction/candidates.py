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
from .unit_weights import UnitWeights, pieces_of_units, weights_of_units

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
    anywhere = _zeros_anywhere(symmetry, tensors)
    for name, weights in reversed(weights_of_units(symmetry, tensors).items()):
        block = weights.block
        surely = _all_zero(weights, weights.written) | _all_zero(weights, weights.read)
        for child in symmetry.blocks.values():
            if child.parent == name and child.name in likely:
                surely |= likely[child.name].all(axis=1)
        perhaps = anywhere[name] & ~surely
        likely |= {name: surely.reshape(block.count, block.size)} if surely.any() else {}
        possible |= {name: perhaps.reshape(block.count, block.size)} if perhaps.any() else {}
    return Candidates(_parents_first(likely), _parents_first(possible))


def _parents_first(chosen: Chosen) -> Chosen:
    return dict(reversed(chosen.items()))


def _zeros(tensor: torch.Tensor) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (tensor == 0).all(dim=1).cpu().numpy()
    return found


def _all_zero(weights: UnitWeights, tensors: Mapping[str, torch.Tensor]) -> NDArray[np.bool_]:
    if not tensors:
        return np.zeros(weights.block.units, dtype=bool)
    return np.logical_and.reduce([_zeros(t) for t in tensors.values()])


def _zeros_anywhere(
    symmetry: Group, tensors: Mapping[str, torch.Tensor]
) -> dict[str, NDArray[np.bool_]]:
    """Per block, the units with nothing but zeros in one of the places where they lie.

    A vector of nothing but zeros says nothing: most models begin with such biases.
    """
    found = {name: np.zeros(block.units, dtype=bool) for name, block in symmetry.blocks.items()}
    for parameter in symmetry.parameters:
        if parameter.is_buffer or parameter.name not in tensors:
            continue
        tensor = tensors[parameter.name].detach()
        for group in parameter.groups:
            if len(group.axes) == tensor.ndim and not tensor.any():
                continue
            for name in dict.fromkeys(n for s in group.segments for n in s.blocks):
                for piece in pieces_of_units(symmetry.blocks, group, tensor, name):
                    found[name] |= (piece == 0).all(dim=2).any(dim=1).cpu().numpy()
    return found
