"""Is it true that an op commutes with more than permutations? Random elements are tried on it.

What is claimed is that an element may act alike on all axes that a block of the rule's group lies
on, of arguments and results. So it is, as an element of a symmetry all of whose places have the
same exponents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ..kinds.claims import KINDS_OF_CLAIMS
from ..models.precision import relative_error
from ..symmetry.group import Symmetry
from ..symmetry.kinds import BlockKind, Factor, Kinds, Mix
from ..symmetry.transform import Transform
from .allowed import Allowed
from .example import TOLERANCE, Draw

TRIES = 3


def refute_claim(
    allowed: Allowed, draws: Sequence[Draw], acts: str, generator: torch.Generator
) -> tuple[float, str]:
    """The largest error under random elements, and in words what is wrong if it is too much."""
    if allowed.indexed:
        return float("inf"), f"an op that returns indices of units does not act as {acts!r} says"
    symmetry = _as_claimed(allowed.symmetry, acts)
    error = 0.0
    for _ in range(TRIES):
        transform = Transform.random(symmetry, generator, scales=True)
        for draw in draws:
            moved = transform.apply(draw.everything)
            for name, result in draw.example.run(moved).items():
                error = max(error, relative_error(moved[name], result))
                if not error <= TOLERANCE:
                    return error, (
                        f"it is said to act as {acts!r}, but random such elements change {name} by "
                        f"{error:.1e} (relative)"
                    )
    return error, ""


def _as_claimed(symmetry: Symmetry, acts: str) -> Symmetry:
    factors = {}
    for parameter in symmetry.parameters:
        for g, group in enumerate(parameter.groups):
            for s, segment in enumerate(group.segments):
                copies = segment.positions.shape[-1]
                for d, block in enumerate(segment.blocks):
                    factor = Factor(block, (1,) * copies, ((1,),) * copies, ((1,),) * copies)
                    factors[parameter.name, g, s, d] = factor
    kind = KINDS_OF_CLAIMS[acts]
    apart = kind.mix is Mix.NOT
    of_all = BlockKind(kind, scales=int(apart and kind.scale), signs=int(apart and kind.sign))
    blocks = dict.fromkeys(symmetry.blocks, of_all)
    return replace(symmetry, known_kinds=Kinds(blocks, factors))
