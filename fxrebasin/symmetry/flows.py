"""Which blocks a parameter reads and which it writes, told from the symmetry alone.

A linear layer's weight ``(out, in)`` reads the blocks on its axis 1 and writes those on its axis
0. A symmetry does not say which ops use a parameter, so the direction is told by, in this order:

1. the bias beside it, which lies on the output axis whatever the order of the weight's axes;
2. why an axis is pinned, if only one of the two moves: outputs are written, fixed places read;
3. which blocks have been there before: what no earlier parameter moves is written;
4. the convention of torch, ``(out, in, ...)``, if no other axis moves.

Where none of these tells, the flow is not directed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..layouts.causes import PinKind
from .parts import AxisGroup, Block, Group, ParameterSymmetry


@dataclass(frozen=True)
class Flow:
    """A parameter that leads from blocks to blocks; what is not a block is pinned.

    Without ``reads`` it leads from pinned units to blocks (the first layer of a network), without
    ``writes`` from blocks to pinned units (the last). If ``directed`` is false, which end is
    which could not be told, and all blocks are in ``reads``.
    """

    parameter: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    pinned_units: int = 0
    """How long the pinned end is; 0 where both ends are blocks."""
    directed: bool = True

    @property
    def blocks(self) -> tuple[str, ...]:
        return self.reads + self.writes


def flows(symmetry: Group) -> list[Flow]:
    """Every parameter that leads from one axis to another, in the order of the parameters.

    Biases, norms and depthwise kernels, which act on a block where it is, are none; nor are
    buffers.

    >>> import torch, fxrebasin as fr
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> for flow in flows(fr.analyze(net, args=(torch.zeros(1, 2),))):
    ...     print(flow.parameter, flow.reads, flow.writes)
    0.weight () ('0.weight[0]',)
    2.weight ('0.weight[0]',) ()
    """
    by_name = {name: p for p in symmetry.parameters for name in p.names}
    pinned = {(p.parameter, p.dim): p.kind for p in symmetry.pinned}
    seen: set[str] = set()
    result: list[Flow] = []
    for parameter in symmetry.parameters:
        blocks = blocks_on(parameter)
        if not parameter.is_buffer and blocks:
            batch = _batch_axes(symmetry.blocks, blocks)
            ends = {axis: names for axis, names in blocks.items() if axis not in batch}
            bias = _bias_of(parameter, by_name)
            result += _flows_of(parameter, ends, batch, bias, pinned, seen)
        seen.update(name for found in blocks.values() for name in found)
    if all(flow.writes for flow in result):
        result += _tied_ends(result, by_name)
    return result


def blocks_on(parameter: ParameterSymmetry) -> dict[int, tuple[str, ...]]:
    """Per axis, the blocks whose units lie along it.

    Also where axes move jointly: of the weight ``(groups * out, in)`` of a grouped convolution, the
    groups and their outputs lie along axis 0, their inputs along axis 1.
    """
    result: dict[int, dict[str, None]] = {}
    for group in parameter.groups:
        for axis, name in _placed(parameter.shape, group):
            result.setdefault(axis, {})[name] = None
    return {axis: tuple(result[axis]) for axis in sorted(result)}


def _placed(shape: tuple[int, ...], group: AxisGroup) -> list[tuple[int, str]]:
    sizes = [shape[axis] for axis in group.axes]
    found = []
    for segment in group.segments:
        places = np.unravel_index(segment.positions, sizes)
        for d, name in enumerate(segment.blocks):
            for axis, place in zip(group.axes, places, strict=True):
                if (place != place.take([0], axis=d)).any():
                    found.append((axis, name))
    return found


def _bias_of(
    parameter: ParameterSymmetry, by_name: Mapping[str, ParameterSymmetry]
) -> ParameterSymmetry | None:
    for name in parameter.names:
        module, dot, own = name.rpartition(".")
        bias = by_name.get(module + dot + own.replace("weight", "bias"))
        if bias is not None and bias is not parameter and len(bias.shape) == 1:
            return bias
    return None


def ancestors(blocks: Mapping[str, Block], name: str) -> list[str]:
    """The blocks that a block is nested in, from its parent outwards."""
    result: list[str] = []
    parent = blocks[name].parent
    while parent is not None:
        result.append(parent)
        parent = blocks[parent].parent
    return result


def _batch_axes(blocks: Mapping[str, Block], named: Mapping[int, tuple[str, ...]]) -> set[int]:
    """Axes of which every unit has a matrix of its own, such as the experts of a mixture."""
    result = set()
    for axis, names in named.items():
        inner = {n for other, found in named.items() if other != axis for n in found}
        above = {a for name in inner for a in ancestors(blocks, name)}
        if above.issuperset(names) and inner.isdisjoint(names):
            result.add(axis)
    return result


def _flows_of(
    parameter: ParameterSymmetry,
    blocks: Mapping[int, tuple[str, ...]],
    batch: set[int],
    bias: ParameterSymmetry | None,
    pinned: Mapping[tuple[str, int], PinKind],
    seen: set[str],
) -> list[Flow]:
    if len(blocks) == 1:
        return _with_pinned_end(parameter, blocks, batch, bias, pinned, seen)
    output = _output_axis(blocks, bias, seen, may_guess=not batch)
    reads = dict.fromkeys(n for a, names in blocks.items() if a != output for n in names)
    writes = () if output is None else blocks[output]
    return [Flow(parameter.name, tuple(reads), writes, directed=output is not None)]


def _output_axis(
    blocks: Mapping[int, tuple[str, ...]],
    bias: ParameterSymmetry | None,
    seen: set[str],
    may_guess: bool,
) -> int | None:
    if bias is not None:
        found = {name for names in blocks_on(bias).values() for name in names}
        matching = [axis for axis, names in blocks.items() if found == {*names}]
        if len(matching) == 1:
            return matching[0]
    new = [axis for axis, names in blocks.items() if not seen.issuperset(names)]
    if len(new) == 1:
        return new[0]
    return 0 if {*blocks} == {0, 1} and may_guess else None


def _tied_ends(found: list[Flow], by_name: Mapping[str, ParameterSymmetry]) -> list[Flow]:
    """The second use of tied embeddings, where nothing else leads to the network's outputs."""
    return [
        replace(flow, reads=flow.writes, writes=())
        for flow in found
        if not flow.reads and len(by_name[flow.parameter].names) > 1
    ]


def _with_pinned_end(
    parameter: ParameterSymmetry,
    blocks: Mapping[int, tuple[str, ...]],
    batch: set[int],
    bias: ParameterSymmetry | None,
    pinned: Mapping[tuple[str, int], PinKind],
    seen: set[str],
) -> list[Flow]:
    """The flow of a parameter of which one axis moves; none if it acts on it where it is."""
    ((axis, names),) = blocks.items()
    axes = [a for a in range(len(parameter.shape)) if a not in batch]
    # The axes after the first two of a kernel are places within it, no end of the flow.
    others = [a for a in (axes[:2] if axis in axes[:2] else axes) if a != axis]
    units = math.prod(parameter.shape[a] for a in others)
    new = not seen.issuperset(names)
    if not others or (units == 1 and not new):
        return []
    read = Flow(parameter.name, names, (), units)
    written = Flow(parameter.name, (), names, units)
    kinds = [pinned[parameter.name, a] for a in others if (parameter.name, a) in pinned]
    if bias is not None:
        return [written if blocks_on(bias) else read]
    if kinds[:1] == [PinKind.OUTPUT]:
        return [read]
    if new or kinds[:1] == [PinKind.FIXED_PLACE]:
        return [written]
    if not batch and axis < 2:
        return [written if axis == 0 else read]
    return [replace(read, directed=False)]
