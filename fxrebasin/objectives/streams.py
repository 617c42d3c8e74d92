"""Rotations of streams from what models compute, rather than from their weights.

What is written to the stream of a transformer, layer by layer, tells how two of them are turned
against each other far better than their weights do. So where there are examples enough, streams
are rotated by these, everything else is aligned by weights, and weights have the last word.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from ..errors import (
    ArchitectureMismatchError,
    InvalidArgumentError,
    TraceError,
    UnmatchedBlocksWarning,
)
from ..matching.alignment import Alignment
from ..matching.coordinate_descent import coordinate_descent
from ..matching.inner_products import InnerProducts
from ..matching.transforms.groups import steps_of
from ..symmetry.group import Symmetry
from ..symmetry.transform import Transform
from .activation_matching import activations

Match = Callable[[Mapping[str, torch.Tensor], Transform | None, Collection[str]], Alignment]

EXAMPLES = 32
"""Fewer say more of themselves than of the models."""
SAMPLES_PER_UNIT = 2
"""Examples times positions, for every unit of a stream: fewer leave rotations open."""


def rotated_streams(
    symmetry: Symmetry,
    model_b: nn.Module,
    model_a: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    device: torch.device | str | None = None,
) -> Transform | None:
    """The rotations of B's streams that bring what it computes closest to what A does.

    Args:
        symmetry: the group of B.
        model_b, model_a: canonical models; not changed.
        args, kwargs: a batch of inputs.
        device: where to match.

    Returns:
        A transform that does nothing else; None where there are no streams, not examples enough,
        or no activations that can be compared.
    """
    blocks = [b for b in symmetry if b.parent is None]
    steps = steps_of(symmetry, "linear")
    streams = [b.name for b in blocks if steps.get(b.name) == "orthogonal"]
    if not streams or _examples(args, kwargs) < EXAMPLES:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnmatchedBlocksWarning)
            compared = activations(
                symmetry, model_b, model_a, args, kwargs, device=device, group="linear"
            )
    except (TraceError, ArchitectureMismatchError, InvalidArgumentError):
        return None  # no graph, other paths, or nothing to compare: weights are always there
    told = {name for name in streams if _is_told(compared, name)}
    others = [b.name for b in blocks if b.name not in told]
    if not told:
        return None
    return coordinate_descent(compared.keeping(others), progress=False).permutation


def match_from_streams(turned: Transform, b: Mapping[str, torch.Tensor], match: Match) -> Alignment:
    """Align by weights from where streams are rotated: first all else, then everything.

    Args:
        turned: what :func:`rotated_streams` returns.
        b: canonical weights of B.
        match: aligns a state dict, from a start or placing blocks itself, while some blocks stay.
    """
    rest = match(turned.apply(b), None, turned.matrices.keys())
    return match(b, rest.permutation.compose(turned), ())


def _examples(args: Sequence[Any], kwargs: Mapping[str, Any]) -> int:
    """How many there are in a batch: the least length of its tensors."""
    tensors = (x for x in tree_leaves((tuple(args), dict(kwargs))) if isinstance(x, torch.Tensor))
    return min((len(x) for x in tensors if x.ndim), default=0)


def _is_told(compared: InnerProducts, name: str) -> bool:
    """Is a stream seen often enough for every one of its units?"""
    size = compared.symmetry.blocks[name].size
    samples = (
        prod(compared.terms[o.term].a.shape) // prod(o.segment.positions.shape)
        for o in compared.occurrences[name]
    )
    return max(samples, default=0) >= SAMPLES_PER_UNIT * size
