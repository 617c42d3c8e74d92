"""The weights of single units: what is written to them, what reads them, and what acts on them.

>>> import torch, fxrebasin as fr
>>> net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
>>> symmetry = fr.analyze(net, args=(torch.zeros(1, 2),))
>>> hidden = weights_of_units(symmetry, net.state_dict())["0.weight[0]"]
>>> {name: tuple(x.shape) for name, x in hidden.written.items()}
{'0.weight[0]': (8, 2)}
>>> {name: tuple(x.shape) for name, x in hidden.read.items()}
{'2.weight[1]': (8, 3)}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np
import torch

from ..symmetry.action import Indices
from ..symmetry.flows import flows
from ..symmetry.parts import AxisGroup, Block, Group, Segment


@dataclass(frozen=True, eq=False)
class UnitWeights:
    """The weights of the units of one block, each tensor of shape ``(units, entries)``.

    The key of a tensor is its name and the axes that the units lie on, as ``"0.weight[0]"``. Units
    of a nested block are counted over all parents.
    """

    block: Block
    written: dict[str, torch.Tensor] = field(default_factory=dict)
    """Of matrices and kernels whose results the units are."""
    read: dict[str, torch.Tensor] = field(default_factory=dict)
    """Of matrices and kernels that are applied to the units."""
    other: dict[str, torch.Tensor] = field(default_factory=dict)
    """What acts on units where they are, as biases, norms and depthwise kernels, and where it
    cannot be told which of the two it is."""

    def written_norm(self) -> torch.Tensor:
        """Per unit, the norm of all that writes it, biases excepted; of what reads it if nothing
        is known to write it."""
        return norm_of(self, self.written or self.read or self.other)

    def read_norm(self) -> torch.Tensor:
        """Per unit, the norm of all that reads it; of what writes it if nothing is known to."""
        return norm_of(self, self.read or self.written or self.other)


def norm_of(weights: UnitWeights, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Per unit, the Euclidean norm of its entries in all of some tensors, in float64."""
    total = torch.zeros(weights.block.units, dtype=torch.float64)
    for tensor in tensors.values():
        total += tensor.abs().double().square().sum(1).cpu()
    return total.sqrt()


def weights_of_units(
    symmetry: Group, tensors: Mapping[str, torch.Tensor]
) -> dict[str, UnitWeights]:
    """The weights of the units of every block; buffers are left out."""
    directions = _directions(symmetry)
    found = {name: UnitWeights(block) for name, block in symmetry.blocks.items()}
    for parameter in symmetry.parameters:
        if parameter.is_buffer or parameter.name not in tensors:
            continue
        tensor = tensors[parameter.name].detach()
        for group in parameter.groups:
            for name in dict.fromkeys(n for s in group.segments for n in s.blocks):
                kind = directions.get((parameter.name, name), "other")
                axes = ", ".join(map(str, group.axes))
                rows = rows_of_units(symmetry.blocks, group, tensor, name)
                if kind == "both":  # a square matrix from a block to itself
                    kind = "written" if group.axes[0] == 0 else "read"
                getattr(found[name], kind)[f"{parameter.name}[{axes}]"] = rows
    return found


def _directions(symmetry: Group) -> dict[tuple[str, str], str]:
    """Is a block read or written by a parameter? Only what is known for certain."""
    found: dict[tuple[str, str], str] = {}
    for flow in flows(symmetry):
        if flow.directed:
            found |= {(flow.parameter, name): "read" for name in flow.reads}
            for name in flow.writes:
                known = found.get((flow.parameter, name))
                found[flow.parameter, name] = "both" if known else "written"
    return found


def rows_of_units(
    blocks: Mapping[str, Block], group: AxisGroup, tensor: torch.Tensor, name: str
) -> torch.Tensor:
    """The entries of a tensor at each unit of a block, of shape ``(units, entries)``."""
    pieces = pieces_of_units(blocks, group, tensor, name)
    return torch.cat([piece.flatten(1) for piece in pieces], dim=1)


def pieces_of_units(
    blocks: Mapping[str, Block], group: AxisGroup, tensor: torch.Tensor, name: str
) -> list[torch.Tensor]:
    """The same, apart for each place at which a unit lies, as the query and the key of a fused
    projection: tensors of shape ``(units, places, entries)``."""
    front = tensor.movedim(group.axes, tuple(range(len(group.axes))))
    flat = front.reshape(prod(front.shape[: len(group.axes)]), -1)
    found = []
    for segment in group.segments:
        for d, placed in enumerate(segment.blocks):
            if placed == name:
                units = units_along(blocks, segment)[d]
                units = np.broadcast_to(units, segment.positions.shape)
                copies = segment.positions.shape[-1]
                columns = units.reshape(-1, copies), segment.positions.reshape(-1, copies)
                order = np.argsort(columns[0][:, 0], kind="stable")
                rows = flat[torch.from_numpy(columns[1][order])]
                n = blocks[name].units
                rows = rows.reshape(n, -1, copies, flat.shape[1]).movedim(2, 1)
                found.append(rows.reshape(n, copies, -1))
    return found


def units_along(blocks: Mapping[str, Block], segment: Segment) -> list[Indices]:
    """Per block of a segment, its units, counted over all parents, as an open mesh."""
    ndim = segment.positions.ndim
    found: list[Indices] = []
    for d, name in enumerate(segment.blocks):
        size = blocks[name].size
        place = np.arange(size).reshape([-1 if k == d else 1 for k in range(ndim)])
        above = segment.parents[d]
        found.append(place if above < 0 else found[above] * size + place)
    return found
