"""Transforms: an element of the whole group, and how it acts on tensors.

Permutations move units; a transform may also change signs, scale units and mix them by matrices,
where the kind of a block allows it. Everything that either does to memory goes through
:func:`source_of`, and, beside permutations, through :class:`LinearAction`.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..arguments import check_flag, check_kind, check_path, check_text, refuse
from ..drawing.tables import html_table
from ..errors import ArchitectureMismatchError, FileFormatError, InvalidArgumentError
from ..files import replacing
from ..models.copying import deep_copy, forget_caches
from ..models.surroundings import neutral
from ..models.validation import check_model, check_state_dict, check_tensor
from .action import Indices, flat_indices, source_of, take, take_
from .applying import check_names, move_tensors_, moved_tensors, tensors_to_move
from .as_json import what_lacks
from .as_tensors import digest_of_elements, pack, unpack
from .contract import check
from .elements import Elements, compose, invert, is_equal, moved_units, still
from .group import Symmetry, check_symmetry
from .kinds import Kinds
from .kinds_contract import check_kinds
from .linear_action import LinearAction, inverse_transposes
from .membership import check_indices, checked_matrices, checked_scales, checked_signs
from .parts import ParameterSymmetry
from .random_elements import random_elements, random_indices

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T", bound="Transform")

Subgroup = Literal["permutations", "signed", "linear"]


@dataclass(frozen=True, eq=False, repr=False)
class Transform:
    """What moves, scales and mixes the units of every block of a symmetry.

    ``indices[name]`` has shape ``(count, size)``: place ``k`` under parent ``q`` is taken by what
    was unit ``indices[name][q, k]`` under the parent that ``q`` itself is taken from. Then the unit
    at each place is multiplied by its scales and signs, or, where a matrix acts, all units under a
    parent are replaced by the products with it; the indices of such a block leave it as it is. On
    vectors that are dual to those of the block, the inverse transpose of the matrix acts. What is
    allowed is said by the kind of a block, ``symmetry.kinds.of(name)``.

    :class:`Permutation` is the special case that has nothing but indices.

    >>> import torch, fxrebasin as fr
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Linear(8, 2))
    >>> x = torch.randn(4, 2)
    >>> symmetry = fr.analyze(net, args=(x,))
    >>> transform = fr.Transform.random(symmetry, torch.Generator().manual_seed(1))
    >>> transform
    Transform(8 of 8 units moved, 1 of 1 blocks mixed)
    >>> torch.allclose(transform.apply_to(net)(x), net(x), atol=1e-5)
    True

    Args:
        symmetry: the group.
        indices: per block, whole numbers of shape ``(count, size)``.
        signs: per block that has some, of shape ``(kind.signs, count, size)``, 1 where a sign
            changes, else 0.
        log_scales: per block that has some, float64 of shape ``(kind.scales, count, size)``: the
            logarithms of the factors.
        matrices: per block that has some, float64 of shape ``(count, size, size)``.

    Raises:
        InvalidArgumentError: something is not of these shapes, or of no such kind.

    Source:
        The groups beyond permutations are those of Godfrey et al., "On the Symmetries of Deep
        Learning Models and their Internal Representations" (2022), section 3, and, for streams with
        norms, of Ashkboos et al., "SliceGPT" (2024), section 3.
    """

    symmetry: Symmetry
    indices: Mapping[str, Indices]
    signs: Mapping[str, NDArray[np.int8]] = field(default_factory=dict)
    log_scales: Mapping[str, torch.Tensor] = field(default_factory=dict)
    matrices: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_symmetry(self.symmetry)
        check_indices(self.symmetry, self.indices)
        parts = {
            "signs": checked_signs(self.symmetry, self.signs),
            "log_scales": checked_scales(self.symmetry, self.log_scales),
            "matrices": checked_matrices(self.symmetry, self.matrices, self.indices),
        }
        for name, found in parts.items():
            object.__setattr__(self, name, found)

    @classmethod
    def identity(cls: type[T], symmetry: Symmetry) -> T:
        """What leaves everything as it is.

        >>> from fxrebasin import Block, Symmetry, Transform
        >>> Transform.identity(Symmetry({"hidden": Block("hidden", 8)}, ()))
        Transform(0 of 8 units moved)
        """
        check_symmetry(symmetry)
        return cls(symmetry, {b.name: still(b) for b in symmetry})

    @classmethod
    @neutral()
    def random(
        cls,
        symmetry: Symmetry,
        generator: torch.Generator | None = None,
        *,
        group: Subgroup = "linear",
        scales: bool = False,
    ) -> Transform:
        """A random element of a symmetry.

        Permutations, signs and orthogonal matrices are uniform over their group; invertible
        matrices are well conditioned.

        >>> import torch, fxrebasin as fr
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
        >>> symmetry = fr.analyze(net, (torch.zeros(1, 2),))
        >>> drawn = fr.Transform.random(symmetry, torch.Generator().manual_seed(0), group="signed")
        >>> drawn
        Transform(7 of 8 units moved, 3 signs changed)

        Args:
            symmetry: the group to draw from.
            generator: the source of randomness; torch's own if not given.
            group: ``"permutations"``; ``"signed"``: and signs, in blocks that have them and
                neither scales nor matrices; ``"linear"``: the whole kind of every block.
            scales: of ``"linear"``: also scale the units of blocks that are not mixed.

        Raises:
            InvalidArgumentError: there is no such group.
        """
        check_symmetry(symmetry)
        if generator is not None:
            check_kind(generator, torch.Generator, "generator", "a torch.Generator")
        check_flag(scales, "scales")
        if not isinstance(group, str) or group not in get_args(Subgroup):
            refuse("group", "'permutations', 'signed' or 'linear'", group)
        if group == "permutations":
            return cls(symmetry, random_indices(symmetry, generator))
        elements = random_elements(
            symmetry, generator, signs_only=group == "signed", scales=bool(scales)
        )
        return cls(symmetry, *elements)

    def flat(self, name: str) -> Indices:
        """Per unit of a block, counted over all parents, the unit that takes its place."""
        check_text(name, "name", "the name of a block")
        if name not in self.symmetry.blocks:
            known = ", ".join(map(repr, list(self.symmetry.blocks)[:3])) or "none"
            refuse("name", f"a block of the symmetry, which has {known}", name)
        return flat_indices(self.symmetry.blocks, self.indices, name)

    @neutral()
    def apply(self, state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The moved state dict: same keys, order, dtypes and devices; nothing is mutated.

        Tensors that do not move are the same objects; tied tensors stay tied. A dict stays of its
        type and keeps its attributes, such as the versions of modules that torch notes in one.

        Raises:
            ArchitectureMismatchError: a tensor has another shape than the symmetry says, or no
                tensor has a name that the symmetry knows, or one has that which a wrapper gives it.
            InvalidArgumentError: it is no state dict, or matrices act on a block whose norms have
                to be absorbed and are not.
        """
        check_state_dict(state_dict, "state_dict")
        check_names(self.symmetry, state_dict)
        self._check_absorbed(state_dict)
        result = copy.copy(state_dict) if isinstance(state_dict, dict) else dict(state_dict)
        result.update(moved_tensors(self.symmetry, state_dict, self.move))
        return result

    @neutral()
    def move(self, parameter: ParameterSymmetry, tensor: torch.Tensor) -> torch.Tensor:
        """What comes in the place of one parameter's tensor; a new tensor.

        Whether norms are absorbed is not looked at, as :meth:`apply` does.

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
        return tensor if self.permutes_only(parameter) else self._linear.act(parameter, tensor)

    @neutral()
    def apply_to(self, model: M) -> M:
        """A copy of a module, hooks and methods included, with moved weights.

        Raises:
            ArchitectureMismatchError: the module has other parameters than the symmetry says.
        """
        check_model(model, "model")
        moved = deep_copy(model)
        self.apply_(moved)
        return moved

    @neutral()
    def apply_(self, model: nn.Module) -> None:
        """Move a module's own parameters and buffers in place.

        Raises:
            InvalidArgumentError: two of them share memory and would have to move differently, or
                norms have to be absorbed and are not; nothing was changed.
            ArchitectureMismatchError: the module has other parameters than the symmetry says.
        """
        check_model(model, "model")
        tensors = tensors_to_move(self.symmetry, model)
        self._check_absorbed(tensors)
        if move_tensors_(self.symmetry, tensors, self.move, self._move_):
            forget_caches(model)

    def _move_(self, parameter: ParameterSymmetry, tensor: torch.Tensor) -> None:
        if not self.permutes_only(parameter):
            tensor.copy_(self.move(parameter, tensor))
            return
        for group in parameter.groups:
            source = source_of(self.symmetry.blocks, self.indices, parameter, group)
            take_(tensor.detach(), group.axes, source)

    @cached_property
    def _linear(self) -> LinearAction:
        kinds = self.symmetry.kinds
        inverses = inverse_transposes(kinds, self.matrices)
        return LinearAction(
            self.symmetry.blocks, kinds, self.signs, self.log_scales, self.matrices, inverses
        )

    def permutes_only(self, parameter: ParameterSymmetry) -> bool:
        """Does nothing but a permutation act on a tensor?"""
        acting = (self.signs, self.log_scales, self.matrices)
        if not any(acting):
            return True
        blocks = {b for g in parameter.groups for s in g.segments for b in s.blocks}
        return not any(block in part for block in blocks for part in acting)

    def _check_absorbed(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Rotations keep the function only where the weights of norms are one."""
        names = {p.name: p.names for p in self.symmetry.parameters}
        for block in self.matrices:
            for vector in self.symmetry.kinds.of(block).absorbed:
                for name in (n for n in names.get(vector, ()) if n in tensors):
                    check_tensor(tensors[name], f"state_dict[{name!r}]")
                    if not _is_one(tensors[name]):
                        raise InvalidArgumentError(
                            f"a matrix acts on block {block!r}, for which the norm's weight "
                            f"{name!r} has to be one, as it is once what reads the norm has "
                            "absorbed it; call fr.canonicalise(symmetry, state_dict) before"
                        )

    def inverse(self: T) -> T:
        """What undoes this."""
        return self._of(self.symmetry, invert(self.symmetry, self._elements))

    def compose(self, first: Transform) -> Transform:
        """``first``, and then this one: ``a.compose(b).apply(s) == a.apply(b.apply(s))``."""
        name = type(self).__name__
        check_kind(first, Transform, "first", f"a {name} of the same symmetry")
        if first.symmetry.blocks != self.symmetry.blocks:
            raise InvalidArgumentError(f"only {name.lower()}s of the same symmetry can be composed")
        kind = type(self) if isinstance(first, type(self)) else Transform
        made = compose(self.symmetry, self._elements, first._elements)
        return kind._of(self.symmetry, made)

    @classmethod
    def _of(cls: type[T], symmetry: Symmetry, elements: Elements) -> T:
        return cls(symmetry, *elements)

    @property
    def _elements(self) -> Elements:
        return Elements(self.indices, self.signs, self.log_scales, self.matrices)

    @property
    def digest(self) -> str:
        """A SHA-256 of the symmetry's fingerprint and of what becomes of every unit.

        >>> from fxrebasin import Block, Symmetry
        >>> symmetry = Symmetry({"hidden": Block("hidden", 8)}, ())
        >>> Transform.identity(symmetry).digest[:12]
        '91931628fc35'
        """
        return digest_of_elements(self.symmetry.fingerprint, self._elements)

    @property
    def is_identity(self) -> bool:
        return self.moved_units == 0

    @property
    def moved_units(self) -> int:
        """How many units do not stay where and as they are."""
        return moved_units(self.symmetry, self._elements)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Transform)
            and self.symmetry.blocks == other.symmetry.blocks
            and is_equal(self._elements, other._elements)
        )

    def __hash__(self) -> int:
        return hash(tuple((name, self.indices[name].tobytes()) for name in sorted(self.indices)))

    def __repr__(self) -> str:
        text = f"{self.moved_units:,} of {self.symmetry.movable_units:,} units moved"
        changed = sum(int(one.sum()) for one in self.signs.values())
        text += f", {changed:,} signs changed" if changed else ""
        total = len(self.symmetry)
        for does, part in (("scaled", self.log_scales), ("mixed", self.matrices)):
            text += f", {len(part)} of {total} blocks {does}" if part else ""
        return f"{type(self).__name__}({text})"

    def _repr_html_(self) -> str:
        acting = {"signs": self.signs, "scales": self.log_scales, "a matrix": self.matrices}
        rows = []
        for block in self.symmetry:
            flat = self.flat(block.name)
            moved = int(np.count_nonzero(flat != np.arange(len(flat))))
            others = ", ".join(name for name, part in acting.items() if block.name in part)
            rows.append((block.name, f"{block.units:,}", f"{moved:,}", others))
        return html_table(repr(self), ("block", "units", "in another place", "and"), rows)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as safetensors, the symmetry included; written to a temporary name and renamed.

        A digest of all that is in the file is written with it, and looked at by :meth:`load`.
        """
        check_path(path)
        with replacing(path) as temporary:
            temporary.write_bytes(pack(self.symmetry, self._elements))

    @classmethod
    def load(cls: type[T], path: str | os.PathLike[str], *, symmetry: Symmetry | None = None) -> T:
        """Read what :meth:`save` has written, of a transform or of a permutation.

        Files of older versions, which have no digest, are read if what they say does not
        contradict itself.

        Args:
            path: the file.
            symmetry: of the model that it is for; what belongs to another model is then refused.

        Raises:
            FileFormatError: the file is no such thing, or was changed.
            ArchitectureMismatchError: it is of another symmetry than ``symmetry``.
            OSError: the file cannot be opened.
        """
        check_path(path)
        if symmetry is not None:
            check_symmetry(symmetry)
        if os.path.isdir(path):
            raise IsADirectoryError(f"expected a file to read, found a folder: {os.fspath(path)}")
        name = cls.__name__
        try:
            content, elements = unpack(path)
            own = Symmetry(**content._asdict())
            check(own)
            check_kinds(own, own.known_kinds or Kinds({}))
            found = cls._of(own, elements)
        except OSError:
            raise
        except Exception as error:
            raise FileFormatError(
                f"{os.fspath(path)!r} is not a {name.lower()} saved by fxrebasin: "
                f"{what_lacks(error)}; write it again with {name}.save"
            ) from error
        if symmetry is not None and symmetry.fingerprint != own.fingerprint:
            raise ArchitectureMismatchError(
                f"{os.fspath(path)!r} is a {name.lower()} of another model: it has {own!r} of the "
                f"fingerprint {own.fingerprint[:12]}, expected {symmetry!r} of "
                f"{symmetry.fingerprint[:12]}; give the file that was made for this one"
            )
        return found


def _is_one(vector: torch.Tensor) -> bool:
    """Up to what dividing a number by itself rounds."""
    allowed = 4 * torch.finfo(vector.dtype).eps if vector.is_floating_point() else 0.0
    return bool(((vector.detach().double() - 1).abs() <= allowed).all())
