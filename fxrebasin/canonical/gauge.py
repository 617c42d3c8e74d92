"""Models with other weights that compute the same, verified before they are used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from ..errors import VerificationError
from ..models.copying import deep_copy
from ..models.precision import in_double, to_double
from ..models.validation import stored_tensors
from ..symmetry.group import Symmetry
from ..verification.verify import Verification, fits_in_memory, verify
from .canonicalise import module_with
from .tensors import by_first_names

M = TypeVar("M", bound=nn.Module)


class Make(Protocol):
    """What works out other weights, such as
    :func:`~fxrebasin.canonical.canonicalise.canonical_tensors`."""

    def __call__(
        self,
        symmetry: Symmetry,
        tensors: Mapping[str, torch.Tensor],
        *,
        only: Sequence[str] | None = None,
    ) -> dict[str, torch.Tensor]: ...


@dataclass(frozen=True, eq=False)
class Gauge:
    """A model and its reference with weights of one form, by which they can be compared."""

    model: nn.Module
    """Of the user's own class, as is the reference."""
    reference: nn.Module | None
    of_reference: nn.Module | None
    """The reference as it was given."""
    verifications: tuple[Verification, ...]
    """That of the model, and that of the reference if there is one."""
    absorbed: tuple[str, ...]
    """The weights of norms that are one."""
    changed: tuple[str, ...]
    """The parameters that are not what they were."""

    @property
    def is_absorbed(self) -> bool:
        """Are the weights one that should be?"""
        models = [self.model, *([] if self.reference is None else [self.reference])]
        states = [stored_tensors(model) for model in models]
        return all(bool((state[name] == 1).all()) for state in states for name in self.absorbed)

    def __str__(self) -> str:
        n = len(self.absorbed)
        worst = max(self.verifications, key=lambda found: found.error)
        return (
            f"{n} norm{'' if n == 1 else 's'} absorbed, {len(self.changed)} parameters changed; "
            f"{worst}"
        )


def in_gauge(
    symmetry: Symmetry,
    model: nn.Module,
    reference: nn.Module | None,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    make: Make,
) -> Gauge:
    """Both models with the weights that a function makes, each verified.

    Raises:
        VerificationError: one of them would not compute what it did; names the blocks.
        ArchitectureMismatchError, InvalidParameterError: see :func:`fxrebasin.canonicalise`.
    """
    models = [model] if reference is None else [model, reference]
    made = [make(symmetry, by_first_names(symmetry, stored_tensors(m), "model")) for m in models]
    found = tuple(
        _verify(symmetry, m, args, kwargs, make, tensors)
        for m, tensors in zip(models, made, strict=True)
    )
    copies = [module_with(symmetry, m, t) for m, t in zip(models, made, strict=True)]
    return Gauge(
        copies[0],
        copies[1] if reference is not None else None,
        reference,
        found,
        tuple(a.vector for a in symmetry.kinds.absorptions),
        tuple(made[0]),
    )


def _verify(
    symmetry: Symmetry,
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    make: Make,
    made: Mapping[str, torch.Tensor],
) -> Verification:
    """In float64 before anything is rounded, where that can be had."""
    try:
        return _compare(symmetry, model, args, kwargs, made)
    except VerificationError as error:
        tensors = by_first_names(symmetry, stored_tensors(model), "model")
        at_fault = []
        for block in symmetry.blocks:
            try:
                _compare(symmetry, model, args, kwargs, make(symmetry, tensors, only=[block]))
            except VerificationError:
                at_fault.append(repr(block))
        named = ", ".join(at_fault) or "none by itself"
        raise VerificationError(
            f"{type(model).__name__} with canonical weights does not compute what it did; blocks "
            f"at fault: {named}. Nothing was changed. Align with group='signed', and please report "
            f"the model: {error}"
        ) from error


def _compare(
    symmetry: Symmetry,
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    made: Mapping[str, torch.Tensor],
) -> Verification:
    if fits_in_memory(model):
        wide = to_double(deep_copy(model))
        inputs, keywords = in_double((tuple(args), dict(kwargs)))
        try:
            return verify(wide, module_with(symmetry, wide, made), inputs, keywords)
        except (RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, VerificationError):
                raise
    return verify(model, module_with(symmetry, model, made), args, kwargs, remade=True)
