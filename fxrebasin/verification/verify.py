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

from ..arguments import check_flag
from ..errors import VerificationError
from ..models.copying import deep_copy
from ..models.inputs import takes_nested_inputs
from ..models.outputs import Returned
from ..models.precision import (
    TOLERANCE,
    coarsest_dtype,
    dtype_of,
    in_double,
    is_comparable,
    largest_error,
    real_dtype,
    relative_error,
    to_double,
)
from ..models.running import run, run_whole
from ..models.state import changes, state_of
from ..models.surroundings import neutral
from ..models.validation import check_inputs, check_model
from .first_difference import explain_difference
from .rounding import BEYOND_NOISE, BEYOND_STORING, rounding_noise, storing_noise
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
    rounding, and where weights were rounded when they were stored."""

    def __str__(self) -> str:
        name = str(self.dtype).removeprefix("torch.")
        return f"relative output error {self.error:.1e} in {name}"


@neutral()
def verify(
    original: nn.Module,
    rewritten: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    *,
    move_outputs: MoveOutputs | None = None,
    remade: bool = False,
) -> Verification:
    """Run both modules in eval mode on the same inputs and compare every output.

    The comparison is made in float64 where memory allows and the model runs in it, else in the
    dtype of its weights, as for exported graphs, which hold the dtypes that they were made with.
    Strings, numbers and dict keys are compared as well. Where forward changes its module, a second
    call is. Neither module is changed.

    Args:
        original: the user's module.
        rewritten: a module that should compute the same.
        args, kwargs: example inputs.
        move_outputs: what the rewriting does to the outputs, where they were left free.
        remade: were weights not only moved, but mixed or scaled, so that each was rounded when it
            was stored? Then what such rounding does to the outputs is allowed as well.

    Raises:
        VerificationError: an output differs; names the first fx node whose value does. Or nothing
            can be compared, since all outputs are empty or nan.
        InvalidInputError: no tensor is found among the outputs.
    """
    check_model(original, "original")
    check_model(rewritten, "rewritten")
    check_inputs(args, kwargs)
    check_flag(remade, "remade")
    args, kwargs = args or (), dict(kwargs or {})
    if isinstance(rewritten, fx.GraphModule):
        inputs = {str(node.target) for node in rewritten.graph.find_nodes(op="placeholder")}
        kwargs = {k: v for k, v in kwargs.items() if v is not None or k in inputs}
    check_traits(original, rewritten, args, kwargs)
    dtype = dtype_of(original)
    stored = _stored(original) if remade else None
    is_exported = isinstance(rewritten, fx.GraphModule) and takes_nested_inputs(rewritten.graph)
    if dtype != torch.float64 and not is_exported and fits_in_memory(original):
        try:
            wide = _in_double(original, rewritten, args, kwargs)
            return _compare(*wide, torch.float64, move_outputs, stored)
        except (RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, VerificationError):
                raise
    return _compare(original, rewritten, args, kwargs, dtype, move_outputs, stored)


def _compare(
    original: nn.Module,
    rewritten: nn.Module,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    dtype: torch.dtype,
    move_outputs: MoveOutputs | None,
    stored: Mapping[str, float] | None,
) -> Verification:
    untouched = original
    original = deep_copy(original)
    rewritten = deep_copy(rewritten)
    with coarsest_dtype(dtype) as coarsest:
        before = state_of(original)
        whole = run_whole(original, args, kwargs)
        found = run_whole(rewritten, args, kwargs)
    dtype = coarsest.dtype
    expected = returned = [*whole.tensors, *whole.written]
    if move_outputs is not None:
        expected = move_outputs(expected)
    error = _error(expected, found)
    tolerance, noise = TOLERANCE[dtype], 0.0
    if not error <= tolerance and len(returned) == len(found.tensors) + len(found.written):
        noise = rounding_noise(untouched, args, kwargs, returned, whole_numbers=False)
        tolerance = max(tolerance, min(BEYOND_NOISE * noise, MOST_ALLOWED))
        if stored and not error <= tolerance:
            storing = storing_noise(untouched, args, kwargs, returned, stored=stored)
            tolerance = max(tolerance, min(BEYOND_STORING * storing, _most_allowed(stored)))
    if not error <= tolerance:
        is_chaotic = error <= BEYOND_NOISE * noise
        raise VerificationError(
            explain_difference(
                original, rewritten, args, kwargs, error, dtype, noise=noise if is_chaotic else None
            )
        )
    name = type(original).__name__
    if not any(map(is_comparable, expected)):
        raise VerificationError(
            f"nothing can be compared: what {name} returns has no entries, or only nan and inf; "
            "give example inputs on which it returns numbers"
        )
    _compare_others(name, whole, found, tolerance)
    changed = changes(before, state_of(original))
    if changed:
        _compare_again(original, rewritten, args, kwargs, tolerance, changed)
    is_wider = tolerance > TOLERANCE[dtype]
    return Verification(error, dtype, len(expected), tolerance if is_wider else None)


def _stored(model: nn.Module) -> dict[str, float]:
    """Per parameter, the machine epsilon of the dtype in which it is stored."""
    return {
        name: torch.finfo(real_dtype(p.dtype)).eps
        for name, p in model.named_parameters()
        if p.is_floating_point() or p.is_complex()
    }


def _most_allowed(stored: Mapping[str, float]) -> float:
    """The tolerance of the coarsest dtype in which weights are stored."""
    coarsest = max(stored.values(), default=0.0)
    return max(t for dtype, t in TOLERANCE.items() if torch.finfo(dtype).eps <= coarsest)


def _error(expected: list[torch.Tensor], found: Returned) -> float:
    tensors = [*found.tensors, *found.written]
    return largest_error(expected, tensors)


def _compare_others(name: str, expected: Returned, found: Returned, tolerance: float) -> None:
    """Numbers, strings and the like, and where they and the tensors are found."""
    one, other = dict(expected.others), dict(found.others)
    for path in [*one, *(p for p in other if p not in one)]:
        if path not in one or path not in other or not _is_same(one[path], other[path], tolerance):
            shown = [repr(d[path])[:40] if path in d else "nothing" for d in (one, other)]
            raise VerificationError(
                f"at {path or 'the top'} of what {name} returns there is {shown[0]}, but "
                f"{shown[1]} in the module that it is compared with"
            )
    if expected.paths != found.paths:
        pairs = zip(expected.paths, found.paths, strict=True)
        path, now = next((p, q) for p, q in pairs if p != q)
        raise VerificationError(
            f"{name} returns a tensor at {path}, but the module that it is compared with at {now}"
        )


def _is_same(one: Any, other: Any, tolerance: float) -> bool:
    if isinstance(one, (float, complex)) and isinstance(other, (int, float, complex)):
        tensors = (torch.tensor(complex(value)) for value in (one, other))
        return relative_error(*tensors) <= tolerance
    return type(one) is type(other) and bool(one == other)


def _compare_again(
    original: nn.Module,
    rewritten: nn.Module,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    tolerance: float,
    changed: Sequence[str],
) -> None:
    """Where forward changes its module, the second call may depend on the first."""
    found = [run(module, args, kwargs) for module in (original, rewritten)]
    if not largest_error(*found) <= tolerance:
        name = type(original).__name__
        raise VerificationError(
            f"{name} changes {', '.join(map(repr, changed[:5]))} in forward, and its "
            "second call returns something else than that of the traced graph: what is "
            "replaced (self.steps = self.steps + 1), not written to (self.steps.add_(1)), is not "
            "replaced in the graph; permute the module itself with fr.match and "
            "permutation.apply_to instead"
        )


def _in_double(
    original: nn.Module, rewritten: nn.Module, args: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[nn.Module, nn.Module, Any, Any]:
    wide = in_double((tuple(args), kwargs))
    return to_double(deep_copy(original)), to_double(deep_copy(rewritten)), *wide


def fits_in_memory(model: nn.Module) -> bool:
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
