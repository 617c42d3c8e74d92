"""Is what is given an element of the group? Each part of it is held against the kind of its block.

What does nothing is left out, so that a transform that only permutes is known as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..arguments import check_kind, refuse
from ..errors import InvalidArgumentError
from .action import Indices
from .elements import Signs, Tensors
from .group import Symmetry
from .kinds import Mix
from .parts import Block

V = TypeVar("V")

KEPT = 1e-6
"""How far matrices may be from orthogonal ones, or from keeping the vector of ones."""

_ADVICE = "give one that Transform.random or fr.match returns"


def check_indices(symmetry: Symmetry, indices: Mapping[str, Indices]) -> None:
    """Refuse what is no permutation of every block.

    Raises:
        InvalidArgumentError: naming the block.
    """
    check_kind(indices, Mapping, "indices", "a dict from blocks to arrays", _ADVICE)
    unknown = set(indices) ^ set(symmetry.blocks)
    if unknown:
        raise InvalidArgumentError(
            f"a permutation needs indices for exactly the blocks of its symmetry; "
            f"{sorted(map(str, unknown))[0]!r} is missing or unknown"
        )
    for block in symmetry:
        found = indices[block.name]
        check_kind(found, np.ndarray, f"indices[{block.name!r}]", "an array of numpy")
        shape = (block.count, block.size)
        whole = np.issubdtype(found.dtype, np.integer)
        if (
            not whole
            or found.shape != shape
            or (np.sort(found, axis=1) != np.arange(block.size)).any()
        ):
            raise InvalidArgumentError(
                f"the indices of block {block.name!r} must be a permutation of "
                f"0..{block.size - 1} in every row of an integer array of shape {shape}; "
                f"found shape {found.shape} of {found.dtype}"
            )


def checked_signs(symmetry: Symmetry, signs: Signs) -> dict[str, NDArray[np.int8]]:
    """Signs that change anything, as bytes of 0 and 1.

    Raises:
        InvalidArgumentError: naming the block.
    """
    made = {}
    for name, found in _of_blocks(symmetry, signs, "signs").items():
        where = f"signs[{name!r}]"
        check_kind(found, np.ndarray, where, "an array of numpy")
        block, kind = symmetry.blocks[name], symmetry.kinds.of(name)
        if not kind.signs:
            _refuse_kind(symmetry, name, where, "changes signs")
        shape = (kind.signs, block.count, block.size)
        whole = found.dtype == np.bool_ or np.issubdtype(found.dtype, np.integer)
        if not whole or found.shape != shape or not np.isin(found, (0, 1)).all():
            refuse(where, f"an array of shape {shape} of 0 and 1, which changes a sign", found)
        if found.any():
            made[name] = found.astype(np.int8)
    return made


def checked_scales(symmetry: Symmetry, log_scales: Tensors) -> dict[str, torch.Tensor]:
    """Logarithms of scales that change anything.

    Raises:
        InvalidArgumentError: naming the block.
    """
    made = {}
    for name, found in _of_blocks(symmetry, log_scales, "log_scales").items():
        where = f"log_scales[{name!r}]"
        block, kind = symmetry.blocks[name], symmetry.kinds.of(name)
        if not kind.scales:
            _refuse_kind(symmetry, name, where, "scales units")
        shape = (kind.scales, block.count, block.size)
        tensor = _numbers(found, where, shape)
        if tensor.any():
            made[name] = tensor
    return made


def checked_matrices(
    symmetry: Symmetry, matrices: Tensors, indices: Mapping[str, Indices]
) -> dict[str, torch.Tensor]:
    """Matrices that change anything.

    Raises:
        InvalidArgumentError: naming the block.
    """
    made = {}
    for name, found in _of_blocks(symmetry, matrices, "matrices").items():
        where = f"matrices[{name!r}]"
        block, kind = symmetry.blocks[name], symmetry.kinds.of(name).kind
        if kind.mix is Mix.NOT:
            _refuse_kind(symmetry, name, where, "mixes units")
        tensor = _numbers(found, where, (block.count, block.size, block.size))
        _check_group(tensor, block, where, orthogonal=kind.mix is Mix.ORTHOGONAL, ones=kind.ones)
        if (indices[name] != np.arange(block.size)).any():
            raise InvalidArgumentError(
                f"indices[{name!r}]: expected rows of 0..{block.size - 1}, since a matrix acts on "
                f"the block, found others; put the permutation into {where}"
            )
        if (tensor != torch.eye(block.size, dtype=torch.float64, device="cpu")).any():
            made[name] = tensor
    return made


def _check_group(
    tensor: torch.Tensor, block: Block, where: str, *, orthogonal: bool, ones: bool
) -> None:
    identity = torch.eye(block.size, dtype=torch.float64, device="cpu")
    if orthogonal and not _is_near(tensor.mT @ tensor, identity):
        refuse(where, "orthogonal matrices", tensor, "the nearest are U @ V.mT of their svd")
    if not orthogonal and not bool((torch.linalg.inv_ex(tensor).info == 0).all()):
        refuse(where, "matrices that have an inverse", tensor)
    if ones and not all(
        _is_near(tensor.sum(dim), torch.ones(block.size, device="cpu")) for dim in (1, 2)
    ):
        refuse(where, "matrices whose rows and columns sum up to 1", tensor)


def _is_near(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return bool((found - expected).abs().max() <= KEPT) if found.numel() else True


def _of_blocks(symmetry: Symmetry, given: Mapping[str, V], name: str) -> Mapping[str, V]:
    check_kind(given, Mapping, name, "a dict from blocks to what acts on them", _ADVICE)
    for block in given:
        if block not in symmetry.blocks:
            known = ", ".join(map(repr, list(symmetry.blocks)[:3])) or "none"
            refuse(f"the keys of {name}", f"blocks of the symmetry, which has {known}", block)
    return given


def _numbers(found: object, where: str, shape: tuple[int, ...]) -> torch.Tensor:
    expected = f"a tensor of finite numbers of shape {shape}"
    if (
        not isinstance(found, torch.Tensor)
        or found.layout != torch.strided
        or found.device.type == "meta"
        or tuple(found.shape) != shape
        or not found.is_floating_point()
    ):
        refuse(where, expected, found)
    tensor = found.detach().to(device="cpu", dtype=torch.float64)
    if not bool(torch.isfinite(tensor).all()):
        refuse(where, expected, found, "some are nan or infinite")
    return tensor


def _refuse_kind(symmetry: Symmetry, name: str, where: str, does: str) -> NoReturn:
    block = symmetry.blocks[name]
    kind = symmetry.kinds.of(name).describe(block.size)
    raise InvalidArgumentError(
        f"{where}: expected nothing, since no element of {kind}, the kind of the block, {does}"
    )
