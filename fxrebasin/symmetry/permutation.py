"""Permutations: an element of the symmetry group, and how it acts on tensors.

Everything that a permutation does to memory goes through :func:`source_of`: solvers, rewriting
and verification all share it.
"""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from ..arguments import check_kind, check_path, check_text, refuse
from ..errors import ArchitectureMismatchError, FileFormatError, InvalidArgumentError
from ..files import replacing
from ..models.copying import deep_copy, forget_caches
from ..models.surroundings import neutral
from ..models.validation import (
    check_model,
    check_state_dict,
    check_tensor,
    check_unwrapped,
    explain_missing,
    stored_tensors,
)
from .action import Indices, flat_indices, source_of, take, take_
from .aliases import check_writable, sharing_memory
from .as_json import what_lacks
from .as_tensors import digest_of, pack, unpack
from .contract import check
from .group import Symmetry, check_symmetry
from .parts import ParameterSymmetry

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Permutation:
    """Which unit goes where, for every block of a symmetry.

    ``indices[name]`` has shape ``(count, size)``: place ``k`` under parent ``q`` is taken by what
    was unit ``indices[name][q, k]`` under the parent that ``q`` itself is taken from.

    >>> import torch, fxrebasin as fr
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> x = torch.randn(4, 2)
    >>> symmetry = fr.analyze(net, args=(x,))
    >>> permutation = Permutation.random(symmetry, torch.Generator().manual_seed(1))
    >>> moved = permutation.apply_to(net)
    >>> torch.allclose(moved(x), net(x), atol=1e-6)
    True
    """

    symmetry: Symmetry
    indices: Mapping[str, Indices]

    def __post_init__(self) -> None:
        check_symmetry(self.symmetry)
        advice = "give one that Permutation.random or fr.match returns"
        check_kind(self.indices, Mapping, "indices", "a dict from blocks to arrays", advice)
        unknown = set(self.indices) ^ set(self.symmetry.blocks)
        if unknown:
            raise InvalidArgumentError(
                f"a permutation needs indices for exactly the blocks of its symmetry; "
                f"{sorted(map(str, unknown))[0]!r} is missing or unknown"
            )
        for block in self.symmetry:
            found = self.indices[block.name]
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

    @classmethod
    def identity(cls, symmetry: Symmetry) -> Permutation:
        """The permutation that moves nothing.

        >>> from fxrebasin import Block, Symmetry
        >>> Permutation.identity(Symmetry({"hidden": Block("hidden", 8)}, ()))
        Permutation(0 of 8 units moved)
        """
        check_symmetry(symmetry)
        rows = {b.name: np.arange(b.size, dtype=np.int64) for b in symmetry}
        return cls(symmetry, {b.name: np.tile(rows[b.name], (b.count, 1)) for b in symmetry})

    @classmethod
    @neutral()
    def random(cls, symmetry: Symmetry, generator: torch.Generator | None = None) -> Permutation:
        """A random permutation of a symmetry, uniform over the group.

        >>> from fxrebasin import Block, Symmetry
        >>> symmetry = Symmetry({"hidden": Block("hidden", 8)}, ())
        >>> drawn = Permutation.random(symmetry, torch.Generator().manual_seed(0))
        >>> drawn == drawn.inverse().inverse()
        True

        Args:
            symmetry: the group to draw from.
            generator: the source of randomness; torch's own if not given.
        """
        check_symmetry(symmetry)
        if generator is not None:
            check_kind(generator, torch.Generator, "generator", "a torch.Generator")
        device = torch.device("cpu") if generator is None else generator.device
        indices = {}
        for block in symmetry:
            keys = torch.rand(
                block.count, block.size, generator=generator, dtype=torch.float64, device=device
            )
            indices[block.name] = keys.argsort(dim=1).cpu().numpy()
        return cls(symmetry, indices)

    def flat(self, name: str) -> Indices:
        """Per unit of a block, counted over all parents, the unit that takes its place."""
        check_text(name, "name", "the name of a block")
        if name not in self.symmetry.blocks:
            known = ", ".join(map(repr, list(self.symmetry.blocks)[:3])) or "none"
            refuse("name", f"a block of the symmetry, which has {known}", name)
        return flat_indices(self.symmetry.blocks, self.indices, name)

    @neutral()
    def apply(self, state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The permuted state dict: same keys, order, dtypes and devices; nothing is mutated.

        Tensors that do not move are the same objects; tied tensors stay tied. A dict stays of its
        type and keeps its attributes, such as the versions of modules that torch notes in one.

        Raises:
            ArchitectureMismatchError: a tensor has another shape than the symmetry says, or no
                tensor has a name that the symmetry knows, or one has that which a wrapper gives it.
            InvalidArgumentError: it is no state dict.
        """
        check_state_dict(state_dict, "state_dict")
        known = [name for p in self.symmetry.parameters for name in p.names]
        if known and not any(name in state_dict for name in known):
            raise ArchitectureMismatchError(explain_missing(known, state_dict, "state_dict"))
        moving = (p.names for p in self.symmetry.parameters if p.groups)
        missing = {n for names in moving if state_dict.keys().isdisjoint(names) for n in names}
        check_unwrapped(missing, state_dict, "state_dict")
        result = copy.copy(state_dict) if isinstance(state_dict, dict) else dict(state_dict)
        result.update(self._moved(state_dict))
        return result

    def _moved(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What comes in the place of the tensors that move; tied ones stay tied."""
        result = {}
        for parameter in self.symmetry.parameters:
            moved: dict[int, torch.Tensor] = {}
            for name, tensor in _checked(parameter, tensors):
                if parameter.groups:
                    key = tensor.data_ptr() if tensor.numel() else id(tensor)
                    if key not in moved:
                        moved[key] = self.permute(parameter, tensor)
                    result[name] = moved[key]
        return result

    @neutral()
    def permute(self, parameter: ParameterSymmetry, tensor: torch.Tensor) -> torch.Tensor:
        """One parameter's tensor with its entries moved; a new tensor.

        Raises:
            InvalidArgumentError: it is no tensor, or has another shape than the symmetry says.
        """
        advice = "give one of symmetry.parameters"
        check_kind(parameter, ParameterSymmetry, "parameter", "a ParameterSymmetry", advice)
        check_tensor(tensor, "tensor")
        if tuple(tensor.shape) != parameter.shape:
            refuse("tensor", f"one of shape {parameter.shape}, as {parameter.name!r}", tensor)
        tensor = tensor.detach()
        for group in parameter.groups:
            source = source_of(self.symmetry.blocks, self.indices, parameter, group)
            tensor = take(tensor, group.axes, source)
        return tensor

    @neutral()
    def apply_to(self, model: M) -> M:
        """A copy of a module, hooks and methods included, with permuted weights.

        Raises:
            ArchitectureMismatchError: the module has other parameters than the symmetry says.
        """
        check_model(model, "model")
        moved = deep_copy(model)
        self.apply_(moved)
        return moved

    @neutral()
    def apply_(self, model: nn.Module) -> None:
        """Permute a module's own parameters and buffers in place.

        Raises:
            InvalidArgumentError: two of them share memory and would have to move differently;
                nothing was changed.
            ArchitectureMismatchError: the module has other parameters than the symmetry says.
        """
        check_model(model, "model")
        tensors = stored_tensors(model)
        for parameter in self.symmetry.parameters:
            if parameter.name not in tensors:
                raise ArchitectureMismatchError(
                    f"the model has no parameter {parameter.name!r}, which the symmetry moves"
                )
        shared = sharing_memory(tensors)
        moved = {**tensors, **self._moved({n: t for n, t in tensors.items() if n in shared})}
        check_writable(tensors, moved)
        alone = [(p, _checked(p, tensors, but=shared)) for p in self.symmetry.parameters]
        done = set()
        with torch.no_grad():
            for name in shared:
                tensor = tensors[name]
                if moved[name] is not tensor and id(tensor) not in done:
                    done.add(id(tensor))
                    with _writing_to(tensor):
                        tensor.copy_(moved[name])
            for parameter, named in alone:
                for tensor in {id(t): t for _, t in named}.values():
                    if parameter.groups:
                        done.add(id(tensor))
                        self._permute_(parameter, tensor)
        if done:
            forget_caches(model)

    def _permute_(self, parameter: ParameterSymmetry, tensor: torch.Tensor) -> None:
        with _writing_to(tensor):
            for group in parameter.groups:
                source = source_of(self.symmetry.blocks, self.indices, parameter, group)
                take_(tensor.detach(), group.axes, source)

    def inverse(self) -> Permutation:
        """The permutation that undoes this one."""
        return self._from_flat({b.name: np.argsort(self.flat(b.name)) for b in self.symmetry})

    def compose(self, first: Permutation) -> Permutation:
        """``first``, and then this one: ``a.compose(b).apply(s) == a.apply(b.apply(s))``."""
        check_kind(first, Permutation, "first", "a Permutation of the same symmetry")
        if first.symmetry.blocks != self.symmetry.blocks:
            raise InvalidArgumentError("only permutations of the same symmetry can be composed")
        return self._from_flat(
            {b.name: first.flat(b.name)[self.flat(b.name)] for b in self.symmetry}
        )

    def _from_flat(self, flat: Mapping[str, Indices]) -> Permutation:
        shaped = {b.name: (flat[b.name] % b.size).reshape(b.count, b.size) for b in self.symmetry}
        return Permutation(self.symmetry, shaped)

    @property
    def digest(self) -> str:
        """A SHA-256 of the symmetry's fingerprint and of where every unit goes.

        >>> from fxrebasin import Block, Symmetry
        >>> symmetry = Symmetry({"hidden": Block("hidden", 8)}, ())
        >>> Permutation.identity(symmetry).digest[:12]
        '4300c6a0e90d'
        """
        arrays = {name: np.asarray(x, dtype=np.int64) for name, x in self.indices.items()}
        return hashlib.sha256((self.symmetry.fingerprint + digest_of(arrays)).encode()).hexdigest()

    @property
    def is_identity(self) -> bool:
        return self.moved_units == 0

    @property
    def moved_units(self) -> int:
        """How many units do not stay where they are."""
        flats = [self.flat(b.name) for b in self.symmetry]
        return sum(int(np.count_nonzero(f != np.arange(len(f)))) for f in flats)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Permutation)
            and self.symmetry.blocks == other.symmetry.blocks
            and all(np.array_equal(self.indices[k], other.indices[k]) for k in self.indices)
        )

    def __hash__(self) -> int:
        return hash(tuple((name, self.indices[name].tobytes()) for name in sorted(self.indices)))

    def __repr__(self) -> str:
        total = self.symmetry.movable_units
        return f"Permutation({self.moved_units:,} of {total:,} units moved)"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as safetensors, the symmetry included; written to a temporary name and renamed.

        A digest of all that is in the file is written with it, and looked at by :meth:`load`.
        """
        check_path(path)
        with replacing(path) as temporary:
            temporary.write_bytes(pack(self.symmetry, self.indices))

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, symmetry: Symmetry | None = None) -> Permutation:
        """Read a permutation written by :meth:`save`.

        Files of older versions, which have no digest, are read if what they say does not
        contradict itself.

        Args:
            path: the file.
            symmetry: of the model that it is for; one of another model is then refused.

        Raises:
            FileFormatError: the file is not such a permutation, or was changed.
            ArchitectureMismatchError: it is of another symmetry than ``symmetry``.
            OSError: the file cannot be opened.
        """
        check_path(path)
        if symmetry is not None:
            check_symmetry(symmetry)
        if os.path.isdir(path):
            raise IsADirectoryError(f"expected a file to read, found a folder: {os.fspath(path)}")
        try:
            content, indices = unpack(path)
            own = Symmetry(**content._asdict())
            check(own)
            found = cls(own, indices)
        except OSError:
            raise
        except Exception as error:
            raise FileFormatError(
                f"{os.fspath(path)!r} is not a permutation saved by fxrebasin: "
                f"{what_lacks(error)}; write it again with Permutation.save"
            ) from error
        if symmetry is not None and symmetry.fingerprint != own.fingerprint:
            raise ArchitectureMismatchError(
                f"{os.fspath(path)!r} is a permutation of another model: it has {own!r} of the "
                f"fingerprint {own.fingerprint[:12]}, expected {symmetry!r} of "
                f"{symmetry.fingerprint[:12]}; give the file that was made for this one"
            )
        return found


def _checked(
    parameter: ParameterSymmetry, tensors: Mapping[str, torch.Tensor], but: Collection[str] = ()
) -> list[tuple[str, torch.Tensor]]:
    """The tensors of a parameter, under each of its names.

    Raises:
        ArchitectureMismatchError: one of them has another shape.
    """
    found = [(n, tensors[n]) for n in parameter.names if n in tensors and n not in but]
    for name, tensor in found:
        if parameter.groups or not isinstance(tensor, torch.Tensor):
            check_tensor(tensor, f"state_dict[{name!r}]")
        if tuple(tensor.shape) != parameter.shape:
            raise ArchitectureMismatchError(
                f"{name!r} has shape {tuple(tensor.shape)}, but the symmetry was found "
                f"for shape {parameter.shape}"
            )
    return found


def _writing_to(tensor: torch.Tensor) -> AbstractContextManager[object]:
    return torch.inference_mode() if tensor.is_inference() else nullcontext()
