"""One representative of all weights that compute the same: the weights of norms absorbed, means
that no one reads taken away, what can be stretched without end at its least norm.

What is left of the group is compact: permutations, signs and rotations, which keep distances.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import TypeVar, overload

import torch
from torch import nn

from ..arguments import check_flag
from ..models.copying import deep_copy, forget_caches
from ..models.surroundings import neutral
from ..models.validation import check_model, check_state_dict, stored_tensors
from ..symmetry.applying import move_tensors_, moved_tensors
from ..symmetry.group import Symmetry, check_symmetry
from ..symmetry.parts import ParameterSymmetry
from .absorb import Absorbing
from .balance import balance, held_by_block
from .centre import Centring
from .held import widen
from .tensors import by_first_names

M = TypeVar("M", bound=nn.Module)
Tensors = Mapping[str, torch.Tensor]


@overload
def canonicalise(symmetry: Symmetry, weights: M, *, scales: bool = False) -> M: ...
@overload
def canonicalise(
    symmetry: Symmetry, weights: Tensors, *, scales: bool = False
) -> dict[str, torch.Tensor]: ...
@neutral()
def canonicalise(
    symmetry: Symmetry, weights: M | Tensors, *, scales: bool = False
) -> M | dict[str, torch.Tensor]:
    """Weights that compute the same, and that all other such weights lead to as well.

    * The weights of norms become one where what reads them can be multiplied by them instead
      (``symmetry.kinds.of(name).absorbed``).
    * What is written to a stream that only layer norms read has no mean over its units.
    * Blocks on which any matrix may act, as on queries and keys, have the least norm. Units that
      nothing reads, or that nothing is written to, are not stretched without end for that.

    Two models that differ by an element of the group then differ by permutations, signs and
    rotations only. The function stays; nothing else about the weights is kept, so that optimizer
    states and what was quantised or pruned do not fit any more.

    >>> import torch, fxrebasin as fr
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
    >>> x = torch.randn(3, 4)
    >>> symmetry = fr.analyze(net, args=(x,))
    >>> stretched = {k: 3 * v if k[0] == "0" else v for k, v in net.state_dict().items()}
    >>> stretched["1.weight"] = stretched["1.weight"] / 3
    >>> one, other = (fr.canonicalise(symmetry, s) for s in (net.state_dict(), stretched))
    >>> all(torch.allclose(one[k], other[k], atol=1e-5) for k in one)
    True
    >>> torch.allclose(fr.canonicalise(symmetry, net)(x), net(x), atol=1e-5)
    True

    Args:
        symmetry: as :func:`fxrebasin.analyze` returns it.
        weights: a state dict, or a module; not changed. All is computed in float64 and rounded
            once, and takes as much memory.
        scales: bring scales of units to their least norm too, as those of ReLU networks, and have
            batch norm divide by one. For networks that were trained alike, this changes little,
            and can do harm; it helps where recipes differ.

    Returns:
        A state dict with the same keys, order, dtypes and devices, or a copy of the module.

    Raises:
        ArchitectureMismatchError: a tensor is missing or has another shape than the symmetry says.
        InvalidArgumentError: an argument is not what it has to be.
        InvalidParameterError: a tensor is on the meta device, sparse or quantised; or a weight of
            a layer norm is zero where its bias, which would be divided by it, is not.

    Source:
        Least norms: Kempf and Ness, "The length of vectors in representation spaces" (1979).
        Absorbed norms and centred streams: Ashkboos et al., "SliceGPT" (2024), section 3.
    """
    check_symmetry(symmetry)
    check_flag(scales, "scales")
    if isinstance(weights, nn.Module):
        check_model(weights, "weights")
        tensors = by_first_names(symmetry, stored_tensors(weights), "weights")
        return module_with(symmetry, weights, canonical_tensors(symmetry, tensors, scales=scales))
    check_state_dict(weights, "weights")
    tensors = by_first_names(symmetry, weights, "weights")
    return state_with(symmetry, weights, canonical_tensors(symmetry, tensors, scales=scales))


def absorb(symmetry: Symmetry, state: Tensors) -> dict[str, torch.Tensor]:
    """A state dict that computes the same, in which the weights of norms are one that can be.

    The first step of :func:`canonicalise`; arguments, result and errors are those of that.
    """
    tensors = by_first_names(symmetry, state, "state")
    return state_with(symmetry, state, absorbed_tensors(symmetry, tensors))


def absorbed_tensors(
    symmetry: Symmetry, tensors: Tensors, only: Collection[str] | None = None
) -> dict[str, torch.Tensor]:
    """In float64, the tensors that absorbing changes, by their first names.

    Args:
        symmetry: which norms can be absorbed.
        tensors: as :func:`~fxrebasin.canonical.tensors.by_first_names` returns them.
        only: the blocks to do that for, if not all.
    """
    absorbing = Absorbing(symmetry, tensors, only)
    parameters = [p for p in symmetry.parameters if p.name in tensors and absorbing.changes(p)]
    return {p.name: absorbing.absorb(p, widen(tensors[p.name])) for p in parameters}


def canonical_tensors(
    symmetry: Symmetry,
    tensors: Tensors,
    *,
    scales: bool = False,
    only: Collection[str] | None = None,
) -> dict[str, torch.Tensor]:
    """In float64, the tensors of canonical weights that differ from those given.

    Arguments are those of :func:`absorbed_tensors`.
    """
    made = absorbed_tensors(symmetry, tensors, only)
    centring = Centring(symmetry, only)
    for parameter in symmetry.parameters:
        if parameter.name in tensors and centring.changes(parameter):
            name = parameter.name
            tensor = made[name] if name in made else widen(tensors[name])
            made[name] = centring.centre(parameter, tensor)
    held = held_by_block(symmetry, set(tensors), scales=scales, only=only)
    names = {one.parameter.name for places in held.values() for one in places}
    wide = {n: made[n] if n in made else widen(tensors[n]) for n in sorted(names)}
    return {**made, **balance(symmetry, held, wide)}


def state_with(symmetry: Symmetry, state: Tensors, made: Tensors) -> dict[str, torch.Tensor]:
    """A state dict of the same type, with other tensors in it, rounded to the dtypes that it has.

    Args:
        symmetry: which tensors go by several names.
        state: any; not changed.
        made: by the first names of parameters, in any dtype and on any device.
    """
    result = copy.copy(state) if isinstance(state, dict) else dict(state)

    def replace(parameter: ParameterSymmetry, tensor: torch.Tensor) -> torch.Tensor:
        if parameter.name not in made:
            return tensor
        return torch.empty_like(tensor.detach()).copy_(made[parameter.name])

    result.update(moved_tensors(symmetry, state, replace))
    return result


def module_with(symmetry: Symmetry, model: M, made: Tensors) -> M:
    """A copy of a module, of its own class, with other tensors; the same is true of it.

    Raises:
        InvalidArgumentError: two tensors share memory and would have to be different.
    """
    copied = deep_copy(model)
    write_(symmetry, copied, made)
    return copied


def write_(symmetry: Symmetry, model: nn.Module, made: Tensors) -> None:
    """Give a module other tensors, by their first names.

    Raises:
        InvalidArgumentError: two tensors share memory and would have to be different; nothing was
            changed.
    """

    def replace(parameter: ParameterSymmetry, tensor: torch.Tensor) -> torch.Tensor:
        return made.get(parameter.name, tensor).to(tensor)

    def replace_(parameter: ParameterSymmetry, tensor: torch.Tensor) -> None:
        if parameter.name in made:
            tensor.copy_(made[parameter.name])

    if move_tensors_(symmetry, stored_tensors(model), replace, replace_):
        forget_caches(model)
