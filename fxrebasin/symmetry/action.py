"""How permutations act on axes of tensors: the one place where their indices are worked out.

The indices of a block have one row per unit of its parent, as in
:class:`~fxrebasin.Permutation`. All that is needed to read them are the blocks by name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray

from .parts import AxisGroup, Block, ParameterSymmetry, Segment

Indices = NDArray[np.int64]


def flat_indices(blocks: Mapping[str, Block], indices: Mapping[str, Indices], name: str) -> Indices:
    """Per unit of a block, counted over all parents, the unit that takes its place."""
    block = blocks[name]
    above = np.zeros(1, dtype=np.int64)
    if block.parent is not None:
        above = flat_indices(blocks, indices, block.parent)
    result: Indices = (above[:, None] * block.size + indices[name]).ravel()
    return result


def take(tensor: torch.Tensor, axes: tuple[int, ...], source: Indices) -> torch.Tensor:
    """Gather along ``axes``, flattened in C order."""
    index = torch.from_numpy(source).to(tensor.device)
    if len(axes) == 1:
        return tensor.index_select(axes[0], index)
    front = tensor.movedim(axes, tuple(range(len(axes))))
    flat = front.reshape(-1, *front.shape[len(axes) :]).index_select(0, index)
    return flat.reshape(front.shape).movedim(tuple(range(len(axes))), axes).contiguous()


PIECE = 1 << 19
"""How many entries are moved at a time where that is done in place."""


def take_(tensor: torch.Tensor, axes: tuple[int, ...], source: Indices) -> None:
    """The same in place, a piece at a time: new memory for all of a large tensor takes longer."""
    moved = np.flatnonzero(source != np.arange(len(source)))
    if not moved.size:
        return
    if len(axes) > 1:
        tensor.copy_(take(tensor, axes, source))
        return
    axis = axes[0]
    if 4 * len(moved) < len(source):
        places, taken = (torch.from_numpy(m).to(tensor.device) for m in (moved, source[moved]))
        tensor.index_copy_(axis, places, tensor.index_select(axis, taken))
        return
    index = torch.from_numpy(source).to(tensor.device)
    other = max(range(tensor.ndim), key=lambda d: (d != axis, tensor.shape[d]))
    if tensor.numel() <= PIECE or other == axis:
        tensor.copy_(tensor.index_select(axis, index))
        return
    width = -(-PIECE * tensor.shape[other] // tensor.numel())
    for piece in tensor.split(width, other):
        piece.copy_(piece.index_select(axis, index))


def source_of(
    blocks: Mapping[str, Block],
    indices: Mapping[str, Indices],
    parameter: ParameterSymmetry,
    group: AxisGroup,
    still: Collection[str] = (),
) -> Indices:
    """For every position along ``group.axes`` (in C order), the one whose entry comes there.

    Blocks named in ``still`` are left as they are.
    """
    source = np.arange(prod(parameter.shape[a] for a in group.axes), dtype=np.int64)
    for segment in group.segments:
        if segment.blocks:
            place_units(blocks, indices, segment, source, still)
    return source


def place_units(
    blocks: Mapping[str, Block],
    indices: Mapping[str, Indices],
    segment: Segment,
    source: Indices,
    still: Collection[str] = (),
) -> None:
    """Write into ``source``, as in :func:`source_of`, what comes to the positions of a segment."""
    source[segment.positions] = segment.positions[_permuted_index(blocks, indices, segment, still)]


def _permuted_index(
    blocks: Mapping[str, Block],
    indices: Mapping[str, Indices],
    segment: Segment,
    still: Collection[str],
) -> tuple[Indices, ...]:
    """An open mesh over the dimensions of a segment, with the blocks' dimensions permuted."""
    ndim = segment.positions.ndim
    index: list[Indices] = []
    numbers = unit_numbers(blocks, segment)
    for d, name in enumerate(segment.blocks):
        place = np.arange(blocks[name].size).reshape([-1 if k == d else 1 for k in range(ndim)])
        index.append(place if name in still else indices[name].reshape(-1)[numbers[d]])
    copies = np.arange(segment.positions.shape[-1]).reshape((1,) * (ndim - 1) + (-1,))
    return (*index, copies)


def unit_numbers(blocks: Mapping[str, Block], segment: Segment) -> list[Indices]:
    """Per dimension of a segment, the number of the unit there, counted over all parents.

    Each broadcasts to the shape of the segment's positions.
    """
    ndim = segment.positions.ndim
    numbers: list[Indices] = []
    for d, name in enumerate(segment.blocks):
        size = blocks[name].size
        place = np.arange(size).reshape([-1 if k == d else 1 for k in range(ndim)])
        above = segment.parents[d]
        numbers.append(numbers[above] * size + place if above >= 0 else place)
    return numbers
