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

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import NoReturn

import numpy as np

from ..errors import InvalidSymmetryError
from .parts import AxisGroup, Block, Group, ParameterSymmetry, Segment

Place = tuple[ParameterSymmetry, AxisGroup]


def check(symmetry: Group) -> None:
    """Make sure that a symmetry can be relied on.

    Args:
        symmetry: any; it is not changed. The time is that of looking at every position once.

    Raises:
        InvalidSymmetryError: naming the tensor, axis or block where it contradicts itself.
    """
    _check_blocks(symmetry.blocks)
    lost = symmetry.units_not_understood
    if not isinstance(lost, int) or isinstance(lost, bool) or lost < 0:
        _refuse(f"units_not_understood: expected a whole number, at least 0, found {lost!r}")
    tensors = (*symmetry.parameters, *symmetry.outputs)
    _check_names(tensors)
    for tensor in tensors:
        _check_axes(tensor)
    groups = [(tensor, group) for tensor in tensors for group in tensor.groups]
    _check_segments(symmetry.blocks, groups)
    _check_positions(groups)
    _check_use(symmetry.blocks, groups)


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
                _refuse(
                    f"{where} is nested in {block.parent!r}: expected that among the blocks before "
                    f"it, which are {_listed(units)}"
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


def _check_segments(blocks: Mapping[str, Block], groups: Sequence[Place]) -> None:
    """Each by itself. Many are of the same blocks, about which the same can be said."""
    known: dict[tuple[tuple[str, ...], tuple[int, ...]], str] = {}
    sizes = {name: block.size for name, block in blocks.items()}
    for tensor, group in groups:
        for segment in group.segments:
            kind = (segment.blocks, segment.parents)
            if kind not in known:
                known[kind] = _problem_of_blocks(blocks, segment)
            problem = known[kind]
            if not problem:
                expected = tuple([sizes[name] for name in segment.blocks])
                shape = segment.positions.shape
                if shape[:-1] != expected or len(shape) != len(expected) + 1:
                    problem = _problem_of_shape(segment, expected)
                elif segment.positions.dtype != np.int64:
                    problem = f"expected positions of int64, found {segment.positions.dtype}"
            if problem:
                _refuse(f"{_spelled(tensor, group)}: {problem}")


def _problem_of_blocks(blocks: Mapping[str, Block], segment: Segment) -> str:
    """What is wrong with the blocks and parents of a segment; nothing if nothing is."""
    unknown = [name for name in segment.blocks if name not in blocks]
    if unknown:
        return f"moved by block {unknown[0]!r}: expected that among the blocks, found it missing"
    if len(segment.parents) != len(segment.blocks):
        return (
            f"a segment of the blocks {_listed(segment.blocks)}: expected the place of a parent "
            f"for each, found {segment.parents}"
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


def _problem_of_shape(segment: Segment, sizes: tuple[int, ...]) -> str:
    return (
        f"a segment of the blocks {_listed(segment.blocks)}: expected positions of shape "
        f"({', '.join([*map(str, sizes), 'copies'])}), their sizes, found "
        f"{segment.positions.shape}"
    )


def _check_positions(groups: Sequence[Place]) -> None:
    """Those of a group are those of its axes, each once; all groups are looked at together."""
    lengths = np.array([prod([t.shape[a] for a in g.axes]) for t, g in groups], dtype=np.int64)
    positions = [s.positions.ravel() for _, g in groups for s in g.segments]
    sizes = [sum([s.positions.size for s in g.segments]) for _, g in groups]
    flat = np.concatenate([np.empty(0, dtype=np.int64), *positions])
    is_outside = (flat < 0) | (flat >= np.repeat(lengths, sizes))
    if is_outside.any():
        first = int(is_outside.argmax())
        k = int(np.searchsorted(np.cumsum(sizes), first, side="right"))
        _refuse(
            f"{_spelled(*groups[k])}: expected positions from 0 to {lengths[k] - 1}, found "
            f"{flat[first]}"
        )
    begins = np.cumsum(lengths) - lengths
    times = np.bincount(flat + np.repeat(begins, sizes), minlength=int(lengths.sum()))
    if (times != 1).any():
        first = int((times != 1).argmax())
        k = int(np.searchsorted(np.cumsum(lengths), first, side="right"))
        _refuse(
            f"{_spelled(*groups[k])}: expected position {first - begins[k]} in one segment, found "
            f"it in {times[first] or 'none'}"
        )


def _check_use(blocks: Mapping[str, Block], groups: Sequence[Place]) -> None:
    on_axis: dict[tuple[str, int], set[str]] = {}
    for tensor, group in groups:
        names = {name for segment in group.segments for name in segment.blocks}
        on_axis |= {(tensor.name, axis): names for axis in group.axes}
    used = set().union(*on_axis.values())
    for block in blocks.values():
        if block.name not in used:
            _refuse(
                f"block {block.name!r}: expected it on an axis of a parameter or an output, found "
                "it on none"
            )
        for name, dim in block.axes:
            if block.name not in on_axis.get((name, dim), ()):
                _refuse(
                    f"block {block.name!r}: expected it on axis {dim} of {name!r}, which it names, "
                    "found no such axis that it moves"
                )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "none"


def _spelled(tensor: ParameterSymmetry, group: AxisGroup) -> str:
    axes = "axis" if len(group.axes) == 1 else "axes"
    return f"{tensor.name!r}, {axes} {', '.join(map(str, group.axes))}"


def _refuse(problem: str) -> NoReturn:
    raise InvalidSymmetryError(
        f"{problem}; analyse the model again, and if this is what fxrebasin.analyze returned, "
        "please report the model"
    )
