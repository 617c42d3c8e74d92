"""Put the units of every block in order: the permutation that sorts them by a key.

>>> import torch, fxrebasin as fr
>>> net = torch.nn.Sequential(torch.nn.Linear(1, 3, bias=False), torch.nn.Linear(3, 1))
>>> net[0].weight.data = torch.tensor([[2.0], [-3.0], [1.0]])
>>> symmetry = fr.analyze(net, args=(torch.zeros(1, 1),))
>>> sort_units(symmetry, net.state_dict()).permutation.indices["0.weight[0]"]
array([[1, 0, 2]])
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..arguments import refuse
from ..matching.alignment import Alignment
from ..symmetry.action import flat_indices
from ..symmetry.group import Symmetry
from ..symmetry.permutation import Permutation
from .unit_weights import UnitWeights, weights_of_units

Key = Callable[[UnitWeights], Any]
"""From the weights of a block's units to a number for each, in their order."""


def sort_units(
    symmetry: Symmetry, tensors: Mapping[str, torch.Tensor], key: Key = UnitWeights.written_norm
) -> Alignment:
    """The permutation that puts the units with the greatest keys first; equals keep their order.

    Args:
        symmetry: the group.
        tensors: the parameters and buffers of the model, by name.
        key: what to sort by, the greatest first; by default the norm of what writes a unit.

    Returns:
        The permutation. Its objective is the sum of all keys, each times the number of units that
        come after it in its block.

    Raises:
        InvalidArgumentError: the key gives something else than a number per unit.
        ArchitectureMismatchError: the tensors are those of another model.
    """
    begin = time.perf_counter()
    identity = Permutation.identity(symmetry)
    identity.apply(tensors)  # refuses those of another model
    indices = dict(identity.indices)
    before = after = 0.0
    for name, weights in weights_of_units(symmetry, tensors).items():
        block = weights.block
        keys = _check_keys(key(weights), weights).reshape(block.count, block.size)
        before += _objective(keys)
        if block.parent is not None:  # rows come in the order in which parents do
            keys = keys[flat_indices(symmetry.blocks, indices, block.parent)]
        indices[name] = np.argsort(-keys, axis=1, kind="stable")
        after += _objective(np.take_along_axis(keys, indices[name], axis=1))
    seconds = time.perf_counter() - begin
    permutation = Permutation(symmetry, indices)
    return Alignment(permutation, before, after, (after,), True, seconds, {})


ADVICE = "give one as fr.UnitWeights.written_norm"


def _objective(keys: NDArray[np.float64]) -> float:
    return float((keys * np.arange(keys.shape[1])[::-1]).sum())


def _check_keys(found: Any, weights: UnitWeights) -> NDArray[np.float64]:
    expected = f"a function that returns {weights.block.units} numbers for {weights.block.name!r}"
    if found is None:
        refuse("key", expected, found, ADVICE)
    if isinstance(found, torch.Tensor):
        found = found.detach().cpu().double().numpy()
    try:
        keys: NDArray[np.float64] = np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError):
        refuse("key", expected, found, ADVICE)
    if keys.size != weights.block.units or np.isnan(keys).any():
        refuse("key", expected, keys, ADVICE)
    return keys.ravel()
