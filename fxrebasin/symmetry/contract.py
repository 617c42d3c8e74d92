"""What every symmetry promises, as one check that can be run.

Solvers and permutations move memory by what a symmetry says and look at nothing twice. So that
they may:

* a nested block comes after its parent, and there is one set of its units per unit of the parent;
* on every axis that moves, alone or jointly with others, each position lies in one segment;
* a segment has a dimension per block, of the block's size, and each parent before its children;
* every block moves something, and the axes that it names are among those that it moves.

>>> from fxrebasin import Block, Symmetry
>>> check(Symmetry({"hidden": Block("hidden", 8, parent="heads")}, ()))
Traceback (most recent call last):
...
fxrebasin.errors.InvalidSymmetryError: block 'hidden' is nested in 'heads': expected that among \
the blocks before it, which are none; analyse the model again, and if this is what \
fxrebasin.analyze returned, please report the model
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import NoReturn

import numpy as np

from ..errors import InvalidSymmetryError
from .parts import AxisGroup, Block, Group, ParameterSymmetry, Segment

Axis = tuple[str, int]


def check(symmetry: Group) -> None:
    """Make sure that a symmetry can be relied on.

    Args:
        symmetry: any; it is not changed. The time is that of looking at every position once.

    Raises:
        InvalidSymmetryError: naming the tensor, axis or block where it contradicts itself.
    """
    _check_blocks(symmetry.blocks)
    tensors = (*symmetry.parameters, *symmetry.outputs)
    _check_names(tensors)
    moved: set[tuple[str, Axis]] = set()
    for tensor in tensors:
        _check_axes(tensor)
        for group in tensor.groups:
            names = _check_group(symmetry.blocks, tensor, group)
            moved.update((name, (tensor.name, axis)) for name in names for axis in group.axes)
    _check_use(symmetry.blocks, moved)


def _check_blocks(blocks: Mapping[str, Block]) -> None:
    units: dict[str, int] = {}
    for key, block in blocks.items():
        where = f"block {key!r}"
        if block.name != key:
            _refuse(f"{where}: expected that name, found {block.name!r}")
        for what, number in (("size", block.size), ("count", block.count)):
            if not isinstance(number, int) or number < 1:
                _refuse(f"{where}: expected a {what} of at least 1, found {number!r}")
        expected = 1
        if block.parent is not None:
            if block.parent not in units:
                known = ", ".join(map(repr, units)) or "none"
                _refuse(
                    f"{where} is nested in {block.parent!r}: expected that among the blocks before "
                    f"it, which are {known}"
                )
            expected = units[block.parent]
        if block.count != expected:
            above = f"the units of {block.parent!r}" if block.parent else "as it has no parent"
            _refuse(f"{where}: expected the count {expected}, {above}, found {block.count}")
        units[key] = block.units


def _check_names(tensors: Iterable[ParameterSymmetry]) -> None:
    known: set[str] = set()
    for tensor in tensors:
        if not tensor.names:
            _refuse(f"a tensor of shape {tensor.shape}: expected a name, found none")
        for name in tensor.names:
            if name in known:
                _refuse(f"{name!r}: expected one tensor of that name, found another")
            known.add(name)


def _check_axes(tensor: ParameterSymmetry) -> None:
    ndim = len(tensor.shape)
    known: set[int] = set()
    for group in tensor.groups:
        if not group.axes:
            _refuse(f"{tensor.name!r}: expected axes in every group of axes, found none")
        for axis in group.axes:
            if axis not in range(ndim):
                _refuse(f"{tensor.name!r}: expected axes from 0 to {ndim - 1}, found {axis!r}")
            if axis in known:
                _refuse(f"{tensor.name!r}: expected axis {axis} in one group of axes, found two")
            known.add(axis)


def _check_group(
    blocks: Mapping[str, Block], tensor: ParameterSymmetry, group: AxisGroup
) -> set[str]:
    """The blocks that move these axes, if all is as it should be."""
    names: set[str] = set()
    for segment in group.segments:
        problem = _problem_of(blocks, segment)
        if problem:
            _refuse(f"{_spelled(tensor, group)}: {problem}")
        names.update(segment.blocks)
    length = prod(tensor.shape[a] for a in group.axes)
    none = np.empty(0, dtype=np.int64)
    positions = np.concatenate([none, *(s.positions.ravel() for s in group.segments)])
    outside = positions[(positions < 0) | (positions >= length)]
    if outside.size:
        _refuse(
            f"{_spelled(tensor, group)}: expected positions from 0 to {length - 1}, found "
            f"{outside[0]}"
        )
    times = np.bincount(positions, minlength=length)
    if (times != 1).any():
        first = int((times != 1).argmax())
        _refuse(
            f"{_spelled(tensor, group)}: expected position {first} in one segment, found it in "
            f"{'none' if times[first] == 0 else times[first]}"
        )
    return names


def _problem_of(blocks: Mapping[str, Block], segment: Segment) -> str:
    """What is wrong with a segment by itself; nothing if nothing is."""
    unknown = [name for name in segment.blocks if name not in blocks]
    if unknown:
        return f"moved by block {unknown[0]!r}: expected that among the blocks, found it missing"
    if segment.positions.dtype.kind not in "iu":
        return f"expected whole numbers as positions, found {segment.positions.dtype}"
    found = segment.positions.shape
    sizes = tuple(blocks[name].size for name in segment.blocks)
    if len(found) != len(sizes) + 1 or found[:-1] != sizes:
        shape = f"({', '.join([*map(str, sizes), 'copies'])})"
        return (
            f"a segment of the blocks {', '.join(map(repr, segment.blocks)) or 'none'}: expected "
            f"positions of shape {shape}, their sizes, found {found}"
        )
    if len(segment.parents) != len(sizes):
        return (
            f"a segment of the blocks {', '.join(map(repr, segment.blocks)) or 'none'}: expected "
            f"the place of a parent for each, found {segment.parents}"
        )
    for d, (name, place) in enumerate(zip(segment.blocks, segment.parents, strict=True)):
        parent = blocks[name].parent
        if parent is None and place != -1:
            return f"block {name!r}: expected -1 for no parent in its segment, found {place}"
        before = segment.blocks[:d]
        if parent is not None and not (0 <= place < d and before[place] == parent):
            return (
                f"block {name!r}: expected the place of its parent {parent!r} among the blocks "
                f"before it, ({', '.join(map(repr, before))}), found {place}"
            )
    return ""


def _check_use(blocks: Mapping[str, Block], moved: set[tuple[str, Axis]]) -> None:
    used = {name for name, _ in moved}
    for block in blocks.values():
        if block.name not in used:
            _refuse(
                f"block {block.name!r}: expected it on an axis of a parameter or an output, found "
                "it on none"
            )
        for name, dim in block.axes:
            if (block.name, (name, dim)) not in moved:
                _refuse(
                    f"block {block.name!r}: expected it on axis {dim} of {name!r}, which it names, "
                    "found no such axis that it moves"
                )


def _spelled(tensor: ParameterSymmetry, group: AxisGroup) -> str:
    axes = "axis" if len(group.axes) == 1 else "axes"
    return f"{tensor.name!r}, {axes} {', '.join(map(str, group.axes))}"


def _refuse(problem: str) -> NoReturn:
    raise InvalidSymmetryError(
        f"{problem}; analyse the model again, and if this is what fxrebasin.analyze returned, "
        "please report the model"
    )
