"""What has to be done to a state before its blocks can be mixed: norms are absorbed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import torch

from ..symmetry.group import Symmetry
from ..symmetry.kinds import Kinds
from ..symmetry.parts import AxisGroup

State = Mapping[str, torch.Tensor]
"""Stored tensors by name."""


def absorb(symmetry: Symmetry, kinds: Kinds, state: State) -> dict[str, torch.Tensor]:
    """Stored tensors that compute the same, with the vectors that kinds want absorbed at one."""
    made = dict(state)
    by_name = {p.name: p for p in symmetry.parameters}
    for absorption in kinds.absorptions:
        (group,) = by_name[absorption.vector].groups
        (segment,) = group.segments
        vector = state[absorption.vector].detach().double()
        vector = vector[torch.from_numpy(segment.positions.reshape(-1))]
        for (name, g, s, d), powers in absorption.readers.items():
            names = [n for n in by_name[name].names if n in made]
            tensor = made[names[0]].double()
            scaled = _scale(tensor, by_name[name].groups[g], s, d, vector, powers)
            made |= dict.fromkeys(names, scaled.to(state[names[0]].dtype))
    return made


def _scale(
    tensor: torch.Tensor,
    group: AxisGroup,
    s: int,
    d: int,
    vector: torch.Tensor,
    powers: Sequence[float],
) -> torch.Tensor:
    order = [*group.axes, *(a for a in range(tensor.ndim) if a not in group.axes)]
    front = tensor.detach().permute(order)
    flat = front.reshape(prod(front.shape[: len(group.axes)]), -1).clone()
    for c, power in enumerate(powers):
        if power:
            positions = torch.from_numpy(group.segments[s].positions[..., c]).movedim(d, 0)
            at = positions.reshape(len(vector), -1)
            flat[at] = flat[at] * (vector**power)[:, None, None]
    return flat.reshape(front.shape).permute([order.index(a) for a in range(len(order))])
