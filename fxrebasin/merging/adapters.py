"""Adapters of low rank: the change of a weight as a product of two factors.

PEFT stores, for a linear layer ``X`` of weight ``(out, in)``, ``X.lora_A.weight`` of shape
``(r, in)`` and ``X.lora_B.weight`` of shape ``(out, r)``; the change of the weight is ``B A``. What
moves the units of the weight along an axis moves those of one factor.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import ArchitectureMismatchError, InvalidArgumentError, UnsupportedSymmetryError
from ..symmetry.action import source_of, take
from ..symmetry.parts import ParameterSymmetry
from ..symmetry.transform import Transform

FACTOR = re.compile(
    r"^(?:base_model\.model\.)?(?P<module>.+)\.lora_(?P<kind>embedding_)?(?P<factor>[AB])"
    r"(?:\.[^.]+)??(?:\.weight)?$"
)
"""The key of a factor, with the name of the adapter where it was taken from a live model."""


def is_adapter(state_dict: Mapping[str, Tensor]) -> bool:
    """Does it hold factors of low rank?"""
    return any(FACTOR.match(str(name)) for name in state_dict)


def moved_factors(
    permutation: Transform,
    adapter: Mapping[str, Tensor],
    base: Mapping[str, Tensor],
    fan_in_fan_out: bool | None,
) -> dict[str, Tensor]:
    """The factors of an adapter as a permutation of the weights moves them.

    Raises:
        ArchitectureMismatchError: a key belongs to no weight.
        InvalidArgumentError: shapes do not tell which axis a factor belongs to.
        UnsupportedSymmetryError: the axes of a weight move together, which no factor can.
    """
    parameters = {n: p for p in permutation.symmetry.parameters for n in p.names}
    places = {name: _place(name, base) for name in adapter}
    if fan_in_fan_out is None:
        fan_in_fan_out = _is_transposed(adapter, base, places)
    moved = {}
    for name, (weight, factor, is_embedding) in places.items():
        # A reads the input of the layer, B writes its output.
        is_row = (factor == "B") != (fan_in_fan_out or is_embedding)
        own, of_weight = (0, 0 if is_row else 1) if factor == "B" else (1, 0 if is_row else 1)
        moved[name] = _moved(permutation, parameters.get(weight), adapter[name], own, of_weight)
    return moved


def _place(name: str, base: Mapping[str, Tensor]) -> tuple[str, str, bool]:
    """Which weight a key belongs to, which factor it is, and is it one of an embedding?"""
    found = FACTOR.match(name)
    weight = "" if found is None else f"{found['module']}.weight"
    if found is None or weight not in base:
        raise ArchitectureMismatchError(
            f"fine_tuned: expected factors of weights of the base, as "
            f"'base_model.model.layer.lora_A.weight', found {name!r}; take it out, or merge the "
            "adapter into its base and give all weights"
        )
    return weight, found["factor"], found["kind"] is not None


def _is_transposed(
    adapter: Mapping[str, Tensor],
    base: Mapping[str, Tensor],
    places: Mapping[str, tuple[str, str, bool]],
) -> bool:
    """Do layers store their weights as (in, out)?

    Raises:
        InvalidArgumentError: all are square, or they contradict each other.
    """
    seen = set()
    for name, (weight, factor, is_embedding) in places.items():
        shape = tuple(base[weight].shape)
        if is_embedding or shape[0] == shape[1]:
            continue
        size = adapter[name].shape[0 if factor == "B" else 1]
        straight = shape[0] if factor == "B" else shape[1]
        seen.add(size != straight)
    if all(is_embedding for _, _, is_embedding in places.values()):
        return False
    if len(seen) != 1:
        raise InvalidArgumentError(
            "fan_in_fan_out: expected True or False, as shapes do not tell how layers store their "
            "weights, found None; give that of adapter_config.json"
        )
    return seen.pop()


def _moved(
    permutation: Transform,
    parameter: ParameterSymmetry | None,
    factor: Tensor,
    own: int,
    of_weight: int,
) -> Tensor:
    """A factor along its axis ``own`` as the weight is moved along its axis ``of_weight``.

    Raises:
        ArchitectureMismatchError: it is of another size there.
        UnsupportedSymmetryError: the weight moves in a way that factors cannot.
    """
    if parameter is None or not parameter.groups:
        return factor.detach()
    blocks = {b for group in parameter.groups for s in group.segments for b in s.blocks}
    if any(len(group.axes) > 1 for group in parameter.groups) or blocks & {*permutation.matrices}:
        raise UnsupportedSymmetryError(
            f"units of {parameter.name!r} are mixed, or its axes move together, and factors of low "
            "rank cannot; merge the adapter into its base and give all weights"
        )
    size = parameter.shape[of_weight]
    if factor.shape[own] != size:
        raise ArchitectureMismatchError(
            f"fine_tuned: expected a factor of size {size} along dim {own} for "
            f"{parameter.name!r}, found the shape {tuple(factor.shape)}"
        )
    result = factor.detach()
    for group in parameter.groups:
        if group.axes == (of_weight,):
            indices = permutation.indices
            source = source_of(permutation.symmetry.blocks, indices, parameter, group)
            result = take(result, (own,), source)
    if blocks & {*permutation.signs, *permutation.log_scales}:
        factors = _factors_along(permutation, parameter, of_weight).to(result)
        result = result * factors.reshape([-1 if d == own else 1 for d in range(result.dim())])
    return result


def _factors_along(permutation: Transform, parameter: ParameterSymmetry, axis: int) -> Tensor:
    """What the entries of a weight are multiplied by along an axis: a matrix of ones becomes the
    product of what its rows and its columns are multiplied by."""
    ones = torch.ones(parameter.shape, dtype=torch.float64)
    products = permutation.move(parameter, ones).reshape(*parameter.shape[:2], -1)[:, :, 0]
    rows, columns = products[:, 0], products[0] / products[0, 0]
    return rows if axis == 0 else columns
