"""Elements of the whole group, block by block: composed, inverted and compared.

What an element does to the units of a block is ``new[q, k] = s[q, k] * old[p[q, k]]``, or, where a
matrix acts, ``new[q] = M[q] @ old[p(q)]``, for every unit ``q`` of the parent that takes the place
of ``p(q)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from .action import Indices, flat_indices
from .group import Symmetry
from .parts import Block

Signs = Mapping[str, NDArray[np.int8]]
Tensors = Mapping[str, torch.Tensor]
Arrays = Mapping[str, NDArray[Any]]


class Elements(NamedTuple):
    """What acts on all blocks; the names are those of the fields of a transform."""

    indices: Mapping[str, Indices]
    signs: Signs
    log_scales: Tensors
    matrices: Tensors


def compose(symmetry: Symmetry, then: Elements, first: Elements) -> Elements:
    """``first``, and then the other."""
    flat = {b.name: flat_indices(symmetry.blocks, then.indices, b.name) for b in symmetry}
    indices, matrices = {}, {}
    for block in symmetry:
        name = block.name
        if name in then.matrices or name in first.matrices:
            before = _matrices(block, first)[_sources(flat, block)]
            matrices[name] = _matrices(block, then) @ before
            indices[name] = still(block)
        else:
            moved = flat_indices(symmetry.blocks, first.indices, name)[flat[name]]
            indices[name] = (moved % block.size).reshape(block.count, block.size)
    signs = {name: total % 2 for name, total in _added(then.signs, first.signs, flat).items()}
    scales = _added(_arrays(then.log_scales), _arrays(first.log_scales), flat)
    return Elements(indices, signs, _tensors(scales), matrices)


def invert(symmetry: Symmetry, given: Elements) -> Elements:
    """What undoes an element."""
    back = {
        b.name: np.argsort(flat_indices(symmetry.blocks, given.indices, b.name)) for b in symmetry
    }
    indices = {b.name: (back[b.name] % b.size).reshape(b.count, b.size) for b in symmetry}
    signs = {name: _at(x, back[name]) for name, x in given.signs.items()}
    scales = {name: -_at(x, back[name]) for name, x in _arrays(given.log_scales).items()}
    matrices = {
        name: torch.linalg.inv(x)[_sources(back, symmetry.blocks[name])]
        for name, x in given.matrices.items()
    }
    return Elements(indices, signs, _tensors(scales), matrices)


def moved_units(symmetry: Symmetry, given: Elements) -> int:
    """How many units do not stay as they are where they are."""
    total = 0
    for block in symmetry:
        name = block.name
        flat = flat_indices(symmetry.blocks, given.indices, name)
        moved = flat != np.arange(len(flat))
        if name in given.signs:
            moved |= given.signs[name].any(axis=0).ravel()
        if name in given.log_scales:
            moved |= (given.log_scales[name] != 0).any(dim=0).numpy().ravel()
        if name in given.matrices:
            identity = torch.eye(block.size, dtype=torch.float64, device="cpu")
            moved |= (given.matrices[name] != identity).any(dim=2).numpy().ravel()
        total += int(np.count_nonzero(moved))
    return total


def is_equal(one: Elements, other: Elements) -> bool:
    """Do they say the same, to the last bit?"""
    return (
        _agree(one.indices, other.indices)
        and _agree(one.signs, other.signs)
        and _agree(_arrays(one.log_scales), _arrays(other.log_scales))
        and _agree(_arrays(one.matrices), _arrays(other.matrices))
    )


def still(block: Block) -> Indices:
    """The indices of units that stay."""
    return np.tile(np.arange(block.size, dtype=np.int64), (block.count, 1))


def _agree(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[k], other[k]) for k in one)


def _sources(flat: Mapping[str, Indices], block: Block) -> torch.Tensor:
    """Per unit of the parent, that which takes its place."""
    above = np.zeros(1, dtype=np.int64) if block.parent is None else flat[block.parent]
    return torch.from_numpy(above)


def _matrices(block: Block, given: Elements) -> torch.Tensor:
    if block.name in given.matrices:
        return given.matrices[block.name]
    indices = torch.from_numpy(given.indices[block.name])
    return torch.eye(block.size, dtype=torch.float64, device="cpu")[indices]


def _arrays(tensors: Tensors) -> Arrays:
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _tensors(arrays: Arrays) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _at(values: NDArray[Any], flat: Indices) -> NDArray[Any]:
    """Values of units, each taken from where its unit was."""
    return values.reshape(len(values), -1)[:, flat].reshape(values.shape)


def _added(then: Arrays, first: Arrays, flat: Mapping[str, Indices]) -> dict[str, NDArray[Any]]:
    """The sums of values at the places to which ``flat`` brings the units of ``first``."""
    total = {name: _at(values, flat[name]) for name, values in first.items()}
    for name, values in then.items():
        total[name] = values + total[name] if name in total else values
    return total
