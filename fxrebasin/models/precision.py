"""How precisely a model computes, and what difference of its outputs that explains.

Permuting a model changes the order of sums, so that its outputs differ by rounding. They are
compared in float64 where that can be had: the model is widened, and since some models compute their
norms or attention in float32 whatever their weights are, the coarsest dtype that numbers are
rounded to on the way is found while it runs. What may differ is a matter of that dtype.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from .reachable import copy_with
from .surroundings import Observer

M = TypeVar("M", bound=nn.Module)


def dtype_of(model: nn.Module) -> torch.dtype:
    """The coarsest dtype among the weights, float32 if there are none."""
    dtypes = {real_dtype(p.dtype) for p in model.parameters()} & set(TOLERANCE)
    return max(dtypes, key=lambda d: TOLERANCE[d], default=torch.float32)


def real_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of the real and imaginary parts."""
    return torch.empty(0, dtype=dtype).real.dtype if dtype.is_complex else dtype


def to_double(model: M) -> M:
    """In place, as ``nn.Module.double``, which leaves complex tensors as they are.

    No module's own ``double`` is run; tensors that are plain attributes are widened as well.
    """
    wide: dict[int, torch.Tensor] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None and id(parameter) not in wide:
                wide[id(parameter)] = parameter
                grad, parameter.grad = parameter.grad, None
                parameter.data = _widen(parameter.data)
                parameter.grad = None if grad is None else _widen(grad)
        for kept in (module._buffers, vars(module)):
            for name, tensor in list(kept.items()):
                if isinstance(tensor, torch.Tensor):
                    kept[name] = wide.setdefault(id(tensor), _widen(tensor.detach()))
    return model


def in_double(inputs: Any) -> Any:
    """Nested inputs with their floating point tensors in float64."""

    return copy_with(inputs, lambda t: _widen(t.detach()))


def _widen(t: torch.Tensor) -> torch.Tensor:
    return t.double() if t.is_floating_point() else t.to(torch.complex128) if t.is_complex() else t


@contextmanager
def coarsest_dtype(dtype: torch.dtype) -> Iterator[Coarsest]:
    """Find the coarsest dtype that numbers of at least this precision are rounded to.

    Some models compute their norms or attention in float32, also when their weights are float64.
    """
    with Coarsest(dtype) as mode:
        yield mode


class Coarsest(Observer):
    """Remembers the coarsest dtype that numbers are rounded to while a model runs."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        finest = min(map(_eps, tree_leaves((args, kwargs))), default=1.0)
        for tensor in tree_leaves(out):
            if finest < _eps(tensor) < 1.0 and _eps(tensor) > torch.finfo(self.dtype).eps:
                self.dtype = real_dtype(tensor.dtype)
        return out


def _eps(value: Any) -> float:
    if isinstance(value, torch.Tensor) and value.numel() > 1:
        dtype = real_dtype(value.dtype)
        if dtype.is_floating_point:
            return torch.finfo(dtype).eps
    return 1.0


TOLERANCE = {
    torch.float64: 1e-9,
    torch.float32: 1e-4,
    torch.bfloat16: 5e-2,
    torch.float16: 5e-3,
}
"""Largest relative difference of an output that rounding may cause, per dtype.

A permutation changes the order of sums, nothing else. The error of one sum is about the square
root of its length times the machine epsilon (2e-16, 1e-7, 8e-3, 1e-3); deep networks amplify it by
one to three orders of magnitude (measured: 3e-6 at most in float32 over 80 torchvision
classifiers, 2e-15 at most in float64 over some twenty of them). One tensor left in its old place
changed their outputs by 1e-2 or more; see ``benchmarks/coverage/coverage.md``.
"""


def relative_error(expected: torch.Tensor, found: torch.Tensor) -> float:
    """Largest absolute difference over the largest absolute value; inf where shapes differ.

    Whole numbers are equal or not: their error is at least 1 where any differs.
    """
    if expected.shape != found.shape:
        return float("inf")
    if expected.numel() == 0:
        return 0.0
    exact = not any(t.is_floating_point() or t.is_complex() for t in (expected, found))
    least = 1.0 if exact and not torch.equal(expected.detach(), found.detach()) else 0.0
    wide = torch.complex128 if expected.is_complex() else torch.float64
    expected, found = expected.detach().to(wide), found.detach().to(wide)
    both_nan = expected.isnan() & found.isnan()
    difference = torch.where(both_nan | (expected == found), 0.0, (expected - found).abs())
    scale = expected.abs().nan_to_num(0.0, 0.0).max()
    worst = float(difference.max() / scale) if scale > 0 else float(difference.max())
    return max(worst, least) if worst == worst else float("inf")


def is_comparable(tensor: torch.Tensor) -> bool:
    """Is there an entry that says anything: neither nan nor infinite?"""
    return tensor.numel() > 0 and bool(torch.isfinite(tensor).any())


def largest_error(expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor]) -> float:
    """The largest relative error among outputs; inf where their numbers differ."""
    if len(expected) != len(found):
        return float("inf")
    return max(map(relative_error, expected, found), default=0.0)
