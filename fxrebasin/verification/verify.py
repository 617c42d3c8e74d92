"""Does the rewritten module compute what the original computes?

The reference is the user's own module, run eagerly, not its trace: what tracing bakes in is
found here as well, and reported as a fault of the trace, not of the permutation.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from ..errors import VerificationError
from ..models.copying import deep_copy
from ..models.inputs import takes_nested_inputs
from ..models.precision import (
    TOLERANCE,
    coarsest_dtype,
    dtype_of,
    in_double,
    relative_error,
    to_double,
)
from ..models.running import run
from ..models.validation import check_inputs, check_model
from .first_difference import explain_difference
from .rounding import BEYOND_NOISE, rounding_noise
from .traits import check_traits

MOST_ALLOWED = 1e-2
"""What is allowed at most of models that amplify rounding: a tensor in a wrong place changes
outputs by more."""

MoveOutputs = Callable[[list[torch.Tensor]], list[torch.Tensor]]


@dataclass(frozen=True)
class Verification:
    """What was compared, and how well it agreed."""

    error: float
    """Largest difference of an output, relative to the largest entry of that output."""
    dtype: torch.dtype
    outputs: int
    tolerance: float | None = None
    """What was allowed, if that is more than the tolerance of the dtype: for models that amplify
    rounding."""

    def __str__(self) -> str:
        name = str(self.dtype).removeprefix("torch.")
        return f"relative output error {self.error:.1e} in {name}"


def verify(
    original: nn.Module,
    rewritten: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    *,
    move_outputs: MoveOutputs | None = None,
) -> Verification:
    """Run both modules in eval mode on the same inputs and compare every output.

    The comparison is made in float64 where memory allows and the model runs in it, else in the
    dtype of its weights, as for exported graphs, which hold the dtypes that they were made with.
    Neither module is changed.

    Args:
        original: the user's module.
        rewritten: a module that should compute the same.
        args, kwargs: example inputs.
        move_outputs: what the rewriting does to the outputs, where they were left free.

    Raises:
        VerificationError: an output differs; names the first fx node whose value does.
    """
    check_model(original, "original")
    check_model(rewritten, "rewritten")
    check_inputs(args, kwargs)
    args, kwargs = args or (), dict(kwargs or {})
    if isinstance(rewritten, fx.GraphModule):
        inputs = {str(node.target) for node in rewritten.graph.find_nodes(op="placeholder")}
        kwargs = {k: v for k, v in kwargs.items() if v is not None or k in inputs}
    check_traits(original, rewritten, args, kwargs)
    dtype = dtype_of(original)
    is_exported = isinstance(rewritten, fx.GraphModule) and takes_nested_inputs(rewritten.graph)
    if dtype != torch.float64 and not is_exported and _fits_in_memory(original):
        try:
            wide = _in_double(original, rewritten, args, kwargs)
            return _compare(*wide, torch.float64, move_outputs)
        except (RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, VerificationError):
                raise
    return _compare(original, rewritten, args, kwargs, dtype, move_outputs)


def _compare(
    original: nn.Module,
    rewritten: nn.Module,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    dtype: torch.dtype,
    move_outputs: MoveOutputs | None,
) -> Verification:
    untouched = original
    original = deep_copy(original)
    rewritten = deep_copy(rewritten)
    with coarsest_dtype(dtype) as coarsest:
        before = [t.clone() for t in original.buffers()]
        expected = run(original, args, kwargs)
        found = run(rewritten, args, kwargs)
    dtype, returned = coarsest.dtype, expected
    if move_outputs is not None:
        expected = move_outputs(expected)
    errors = [relative_error(e, f) for e, f in zip(expected, found, strict=False)]
    error = max(errors, default=0.0)
    tolerance, noise = TOLERANCE[dtype], 0.0
    if len(expected) == len(found) and not error <= tolerance:
        noise = rounding_noise(untouched, args, kwargs, returned)
        tolerance = max(tolerance, min(BEYOND_NOISE * noise, MOST_ALLOWED))
    if len(expected) != len(found) or not error <= tolerance:
        is_chaotic = error <= BEYOND_NOISE * noise
        raise VerificationError(
            explain_difference(
                original, rewritten, args, kwargs, error, dtype, noise=noise if is_chaotic else None
            )
        )
    names = [name for name, _ in original.named_buffers()]
    now = original.buffers()
    changed = [n for n, old, new in zip(names, before, now, strict=True) if not _same(old, new)]
    if changed:
        _compare_again(original, rewritten, args, kwargs, tolerance, changed)
    is_wider = tolerance > TOLERANCE[dtype]
    return Verification(error, dtype, len(expected), tolerance if is_wider else None)


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | (a != a)).all())


def _compare_again(
    original: nn.Module,
    rewritten: nn.Module,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    tolerance: float,
    changed: Sequence[str],
) -> None:
    """Where forward changes buffers, the second call may depend on the first."""
    both = zip(run(original, args, kwargs), run(rewritten, args, kwargs), strict=True)
    if not all(relative_error(e, f) <= tolerance for e, f in both):
        name = type(original).__name__
        raise VerificationError(
            f"{name} changes the buffers {', '.join(map(repr, changed))} in forward, and its "
            "second call returns something else than that of the traced graph: a buffer that is "
            "replaced (self.steps = self.steps + 1), not written to (self.steps.add_(1)), is not "
            "replaced in the graph; permute the module itself with fr.match and "
            "permutation.apply_to instead"
        )


def _in_double(
    original: nn.Module, rewritten: nn.Module, args: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[nn.Module, nn.Module, Any, Any]:
    wide = in_double((tuple(args), kwargs))
    return to_double(deep_copy(original)), to_double(deep_copy(rewritten)), *wide


def _fits_in_memory(model: nn.Module) -> bool:
    """Is there room for both modules in float64, and as much again for activations?"""
    tensors = [*model.parameters(), *model.buffers()]
    needed = 4 * 8 * sum(t.numel() for t in tensors)
    device = tensors[0].device if tensors else torch.device("cpu")
    if device.type == "cuda":
        return needed < torch.cuda.mem_get_info(device)[0]
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return needed < 2**32
    return needed < free
