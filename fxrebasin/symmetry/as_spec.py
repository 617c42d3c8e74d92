"""A symmetry as a permutation spec: per axis of every parameter, the name of its permutation.

That is the form of the ``axes_to_perm`` tables of Git Re-Basin (Ainsworth et al., 2023,
https://arxiv.org/abs/2209.04836), for programs that read it. It can say less than a
:class:`~fxrebasin.Symmetry`: one permutation per axis, of the axis as a whole, entry by entry.
"""

from __future__ import annotations

import numpy as np

from ..errors import UnsupportedSymmetryError
from .parts import AxisGroup, Group, ParameterSymmetry

Spec = dict[str, tuple[str | None, ...]]


def permutation_spec(symmetry: Group) -> Spec:
    """Per stored tensor, the block that permutes each of its axes, or None for one that stays.

    >>> import torch, fxrebasin as fr
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> for name, axes in permutation_spec(fr.analyze(net, args=(torch.zeros(1, 2),))).items():
    ...     print(name, axes)
    0.weight ('0.weight[0]', None)
    0.bias ('0.weight[0]',)
    2.weight (None, '0.weight[0]')
    2.bias (None,)

    ``permutation.indices[name][0]`` is then the permutation called ``name``: a tensor is permuted
    by ``tensor.index_select(axis, indices)`` along each of its axes.

    Args:
        symmetry: what :func:`fxrebasin.analyze` returned.

    Returns:
        An entry for every name of every parameter and buffer, with an item per axis.

    Raises:
        UnsupportedSymmetryError: an axis moves in a way that a spec cannot express: as a part or
            together with another axis, in blocks nested in others, in copies, or in another order.
    """
    result: Spec = {}
    for parameter in symmetry.parameters:
        axes: list[str | None] = [None] * len(parameter.shape)
        for group in parameter.groups:
            axes[group.axes[0]] = _block_of(symmetry, parameter, group)
        result.update(dict.fromkeys(parameter.names, tuple(axes)))
    return result


def _block_of(symmetry: Group, parameter: ParameterSymmetry, group: AxisGroup) -> str | None:
    """The one block that permutes an axis."""
    names = list(dict.fromkeys(name for s in group.segments for name in s.blocks))
    if not names:
        return None
    if len(group.axes) > 1:
        raise _unsupported(parameter, group, "they move jointly, not each by itself")
    nested = next((name for name in names if symmetry.blocks[name].parent is not None), None)
    if nested is not None:
        parent = symmetry.blocks[nested].parent
        raise _unsupported(parameter, group, f"the block {nested!r} is nested in {parent!r}")
    if len(group.segments) > 1:
        still = sum(s.positions.size for s in group.segments if not s.blocks)
        parts = [f"{name!r}" for name in names] + ([f"{still} pinned units"] if still else [])
        raise _unsupported(parameter, group, f"it is a sum of {_listed(parts)}")
    (segment,) = group.segments
    if len(names) > 1:
        raise _unsupported(parameter, group, f"it is a product of {_listed([*map(repr, names)])}")
    copies = segment.positions.shape[-1]
    if copies > 1:
        why = f"the block {names[0]!r} lies on it in {copies} copies, as in a flattened feature map"
        raise _unsupported(parameter, group, why)
    if not np.array_equal(segment.positions.ravel(), np.arange(parameter.shape[group.axes[0]])):
        why = f"the units of block {names[0]!r} lie on it in another order"
        raise _unsupported(parameter, group, why)
    return names[0]


def _listed(parts: list[str]) -> str:
    shown = parts if len(parts) <= 4 else [*parts[:3], f"{len(parts) - 3} more"]
    return f"{', '.join(shown[:-1])} and {shown[-1]}"


def _unsupported(
    parameter: ParameterSymmetry, group: AxisGroup, why: str
) -> UnsupportedSymmetryError:
    axes = "axis" if len(group.axes) == 1 else "axes"
    return UnsupportedSymmetryError(
        f"a permutation spec cannot express {axes} {', '.join(map(str, group.axes))} of "
        f"{parameter.name!r}: {why}; a spec names one permutation of a whole axis, in order. "
        f"Use Permutation.apply, which moves every parameter, instead of a spec"
    )
