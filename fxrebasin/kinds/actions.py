"""Elements of the whole group, and how they act on what a model stores.

Per block, an element is a permutation with scales and signs, or a matrix, under each parent. On a
segment of an axis it acts along the block's dimension: as itself, as its inverse transpose, or on
an absorbed vector not at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch

from ..symmetry.group import Symmetry
from ..symmetry.kinds import Factor, Kind, Kinds, Mix
from ..symmetry.parts import AxisGroup, Segment

State = Mapping[str, torch.Tensor]
"""Stored tensors by name."""


@dataclass(frozen=True, eq=False)
class Element:
    """What acts on one block, under each of its parents."""

    matrices: torch.Tensor
    """Of shape ``(count, size, size)``: what mixes units, or the permutation."""
    log_scales: torch.Tensor
    """Of shape ``(scales, count, size)``."""
    signs: torch.Tensor
    """Of shape ``(signs, count, size)``: 1 where a sign changes, else 0."""


def draw_elements(symmetry: Symmetry, kinds: Kinds, *, seed: int = 0) -> dict[str, Element]:
    """A random element of the group of every block; matrices that mix are well conditioned."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for block in symmetry:
        kind = kinds.of(block.name)
        shape = (block.count, block.size)
        matrices = [_matrix(kind.kind, block.size, generator) for _ in range(block.count)]
        scales = 0.5 * torch.randn(kind.scales, *shape, generator=generator, dtype=torch.float64)
        signs = torch.randint(0, 2, (kind.signs, *shape), generator=generator)
        found[block.name] = Element(torch.stack(matrices), scales, signs)
    return found


def _matrix(kind: Kind, n: int, generator: torch.Generator) -> torch.Tensor:
    if kind.mix is Mix.NOT:
        return torch.eye(n, dtype=torch.float64)[torch.randperm(n, generator=generator)]
    inside = n - 1 if kind.ones else n
    matrix = _rotation(inside, generator)
    if kind.mix is Mix.INVERTIBLE:
        stretch = 0.6 + torch.rand(inside, generator=generator, dtype=torch.float64)
        matrix = matrix @ (stretch[:, None] * _rotation(inside, generator))
    if not kind.ones:
        return matrix
    basis = _complement_of_ones(n)
    return basis @ matrix @ basis.T + 1 / n


def _rotation(n: int, generator: torch.Generator) -> torch.Tensor:
    return torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))[0]


def _complement_of_ones(n: int) -> torch.Tensor:
    """An orthonormal basis of the vectors whose entries add up to zero, as columns."""
    with_ones = torch.cat([torch.ones(n, 1), torch.eye(n)[:, 1:]], dim=1).double()
    return torch.linalg.qr(with_ones)[0][:, 1:]


def act(
    symmetry: Symmetry, kinds: Kinds, elements: Mapping[str, Element], state: State
) -> dict[str, torch.Tensor]:
    """Stored tensors after elements have acted on them; those given are not changed.

    Args:
        symmetry: the blocks, and where they lie.
        kinds: how their elements act.
        elements: one for each block.
        state: every parameter and buffer, by any of its names; norms that a kind wants absorbed
            are (see :func:`absorb`).
    """
    moved = dict(state)
    for parameter in symmetry.parameters:
        names = [name for name in parameter.names if name in state]
        if not names or not parameter.groups:
            continue
        added = kinds.variances.get(parameter.name, 0.0)
        tensor = state[names[0]].detach().double() + added
        for g, group in enumerate(parameter.groups):
            tensor = _act_on_axes(tensor, parameter.name, g, group, kinds, elements)
        result = (tensor - added).to(state[names[0]].dtype)
        moved |= dict.fromkeys(names, result)
    return moved


def _act_on_axes(
    tensor: torch.Tensor,
    name: str,
    g: int,
    group: AxisGroup,
    kinds: Kinds,
    elements: Mapping[str, Element],
) -> torch.Tensor:
    rest = [a for a in range(tensor.ndim) if a not in group.axes]
    order = [*group.axes, *rest]
    front = tensor.permute(order)
    flat = front.reshape(prod(front.shape[: len(group.axes)]), -1)
    made = flat.clone()
    for s, segment in enumerate(group.segments):
        positions = torch.from_numpy(segment.positions)
        entries = flat[positions.reshape(-1)].reshape(*positions.shape, -1)
        for d, block in enumerate(segment.blocks):
            factor = kinds.factors.get((name, g, s, d)) or Factor(block, (1,) * positions.shape[-1])
            entries = _act_along(entries, segment, d, factor, elements[block])
        made[positions.reshape(-1)] = entries.reshape(positions.numel(), -1)
    back = [order.index(a) for a in range(len(order))]
    return made.reshape(front.shape).permute(back)


def _act_along(
    entries: torch.Tensor, segment: Segment, d: int, factor: Factor, element: Element
) -> torch.Tensor:
    """Act along one dimension; what acts depends on the unit of the parent, and on the copy."""
    above: list[int] = []
    parent = segment.parents[d]
    while parent >= 0:
        above.insert(0, parent)
        parent = segment.parents[parent]
    copies = entries.ndim - 2
    others = [k for k in range(copies) if k not in (*above, d)]
    order = [*above, d, *others, copies, copies + 1]
    front = entries.permute(order)
    count, size, _ = element.matrices.shape
    x = front.reshape(count, size, -1, entries.shape[-2], entries.shape[-1])
    inverse = torch.linalg.inv(element.matrices).transpose(1, 2)
    parts = []
    for c, parity in enumerate(factor.parity):
        part = x[:, :, :, c]
        if parity:
            matrices = element.matrices if parity > 0 else inverse
            part = torch.einsum("qij,qjrk->qirk", matrices, part)
        if factor.scales and factor.scales[c]:
            powers = torch.tensor(factor.scales[c], dtype=torch.float64)
            logs = torch.einsum("jqn,j->qn", element.log_scales, powers)
            part = part * logs.exp()[:, :, None, None]
        if factor.signs and factor.signs[c]:
            changes = torch.einsum("jqn,j->qn", element.signs, torch.tensor(factor.signs[c]))
            part = part * (1 - 2 * (changes % 2))[:, :, None, None]
        parts.append(part)
    acted = torch.stack(parts, dim=3).reshape(front.shape)
    return acted.permute([order.index(k) for k in range(len(order))])


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
