"""How a symmetry group moves what the layers of a model are given and return.

That is found as it is for free outputs of a model: the graph is made to return what is watched, and
the blocks of the group are looked for in that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from ..propagation.constraints import Constraint
from ..propagation.interpreter import propagate
from ..refinement.build import build_symmetry
from ..rules.registry import RuleBook
from ..symmetry.group import Symmetry
from ..symmetry.kinds import Factor, Place
from ..symmetry.parts import AxisGroup, ParameterSymmetry, Segment
from ..symmetry.transform import Subgroup
from .activation_factors import Probe
from .recording import Activations, recorded, returning, with_tensors


@dataclass(frozen=True, eq=False)
class Watching:
    """What a model is watched for, and on which inputs."""

    symmetry: Symmetry
    args: Sequence[Any]
    kwargs: dict[str, Any]
    rules: RuleBook
    constraints: Sequence[Constraint] = ()
    group: Subgroup = "signed"


@dataclass(frozen=True, eq=False)
class ActivationSymmetry:
    """How a group acts on activations."""

    symmetry: Symmetry
    group: Subgroup
    activations: tuple[ParameterSymmetry, ...]
    """Those that have units that can move."""
    factors: Mapping[Place, Factor]
    """How signs and matrices act on them."""
    mixed: frozenset[str]
    """The names of those whose units are mixed."""
    lost: tuple[str, ...]
    """The blocks that are not found again in any."""


def find_activation_symmetry(
    watching: Watching,
    graph: fx.GraphModule,
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    seen: Activations,
) -> ActivationSymmetry:
    """Find how a group acts on what a model computes.

    Args:
        watching: the group and the inputs.
        graph, model: what was traced, whose tensors the graph shares.
        tensors: what it was watched with, under all of their names.
        seen: what was recorded.
    """
    symmetry, args, kwargs = watching.symmetry, watching.args, watching.kwargs
    buffers = {name for name, _ in model.named_buffers(remove_duplicate=False)}
    moving = {n for p in symmetry.parameters if p.groups for n in p.names} & buffers
    found = propagate(
        returning(graph, [*seen]),
        model,
        args,
        kwargs,
        rules=watching.rules,
        constraints=watching.constraints,
        free_outputs=range(len(seen)),
        movable=lambda name, _: name in moving,
    )
    described = build_symmetry(found).symmetry
    common = _common_blocks(described, symmetry)
    probe = Probe.draw(symmetry, watching.group)
    probed = seen
    if probe.steps:
        moved = probe.transform.apply(tensors)
        probed = recorded(with_tensors(graph, moved), args, kwargs)
    activations: list[ParameterSymmetry] = []
    factors: dict[Place, Factor] = {}
    for name, output in zip(seen, described.outputs, strict=True):
        restricted = (_restricted(one, common) for one in output.groups)
        groups = tuple(g for g in restricted if any(s.blocks for s in g.segments))
        moves = ParameterSymmetry((name,), output.shape, False, groups)
        explained = probe.explain(moves, seen[name], probed.get(name))
        if groups and explained is not None:
            factors |= explained
            activations.append(moves)
    return ActivationSymmetry(
        symmetry,
        watching.group,
        tuple(activations),
        factors,
        frozenset(moves.name for moves in activations if probe.mixes(moves)),
        tuple(name for name in symmetry.blocks if name not in common),
    )


def _common_blocks(described: Symmetry, symmetry: Symmetry) -> set[str]:
    """The blocks of the symmetry that are found again, with their parents, where activations are
    described; what these move besides parameters comes last among their axes."""
    common: set[str] = set()
    for block in symmetry:  # parents come before what is nested in them
        found = described.blocks.get(block.name)
        if (
            found is not None
            and (found.size, found.count, found.parent) == (block.size, block.count, block.parent)
            and found.axes[: len(block.axes)] == block.axes
            and (block.parent is None or block.parent in common)
        ):
            common.add(block.name)
    return common


def _restricted(group: AxisGroup, blocks: set[str]) -> AxisGroup:
    """A group of axes as some blocks move it; the units of all others count as copies."""
    segments = []
    for segment in group.segments:
        kept = [d for d, name in enumerate(segment.blocks) if name in blocks]
        rest = [d for d in range(segment.positions.ndim) if d not in kept]
        sizes = [segment.positions.shape[d] for d in kept]
        above = (segment.parents[d] for d in kept)
        segments.append(
            Segment(
                tuple(segment.blocks[d] for d in kept),
                segment.positions.transpose(*kept, *rest).reshape(*sizes, -1),
                tuple(kept.index(d) if d >= 0 else -1 for d in above),
            )
        )
    return AxisGroup(group.axes, tuple(segments))
