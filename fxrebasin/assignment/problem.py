"""What every solver of linear assignment problems takes and gives.

Maximise ``sum_i C[i, columns[i]]`` over permutations ``columns``. The dual problem puts a price
``v_j`` on every column, and gives row i the utility ``u_i = max_j C_ij - v_j``; then
``sum_i u_i + sum_j v_j`` is at least the value of any permutation. The difference to the value of
the permutation at hand is its *gap*: zero proves that it is optimal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..arguments import refuse
from ..errors import InvalidArgumentError, InvalidParameterError

Vector = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Assignment:
    """The solutions of a batch of B linear assignment problems of n rows and n columns."""

    columns: Tensor
    """``(B, n)`` int64, on the device of the costs: row i of problem b takes ``columns[b, i]``."""
    value: Tensor
    """``(B,)`` float64: the sum of the costs chosen, accumulated in float64."""
    prices: Tensor | None
    """``(B, n)`` float64: the price v of every column; None where the engine gives none."""
    gap: Tensor | None
    """``(B,)`` float64: ``sum_i max_j (C_ij - v_j) + sum_j v_j - value``, never negative but for
    rounding, and zero, but for rounding, for an optimum; None without prices."""

    def to(self, device: torch.device) -> Assignment:
        """The same on a device."""
        if device == self.columns.device:
            return self
        prices, gap = (x if x is None else x.to(device) for x in (self.prices, self.gap))
        return Assignment(self.columns.to(device), self.value.to(device), prices, gap)


Engine = Callable[[Tensor, Assignment | None], Assignment]
"""Solves checked costs ``(B, n, n)``, n > 1, float32 or float64; an earlier solution may help."""


class Optimum(NamedTuple):
    """The optimal columns of one problem, the prices that prove it, and the gap."""

    columns: Indices
    prices: Vector
    gap: float


def checked(costs: Tensor | NDArray[np.generic], name: str) -> Tensor:
    """Costs as a tensor ``(B, n, n)`` of float32 or float64; whether finite is checked apart."""
    if not isinstance(costs, (Tensor, np.ndarray)):
        refuse(name, "a tensor or an array of numpy", costs, f"give torch.as_tensor({name})")
    if isinstance(costs, np.ndarray) and costs.dtype.kind not in "fiubc":
        refuse(name, "an array of numbers", f"one of {costs.dtype}")
    if isinstance(costs, Tensor) and (costs.layout != torch.strided or costs.is_quantized):
        refuse(name, "a dense tensor", costs, "call .to_dense() or .dequantize() on it")
    if isinstance(costs, Tensor) and costs.device.type == "meta":
        refuse(name, "a tensor with values", "one on the meta device", "compute it on a device")
    tensor = torch.from_numpy(costs) if isinstance(costs, np.ndarray) else costs.detach()
    shape = tensor.shape
    if len(shape) != 3 or shape[1] != shape[2]:
        raise InvalidArgumentError(
            f"{name}: expected a batch of square matrices, shape (B, n, n), found "
            f"{tuple(shape)}; give a single matrix as {name}[None], and pad or cut others"
        )
    if tensor.dtype in (torch.float32, torch.float64):
        return tensor
    if tensor.is_complex():
        raise InvalidArgumentError(
            f"{name}: expected real costs, found {tensor.dtype}; take their real part"
        )
    return tensor.to(torch.float32 if tensor.is_floating_point() else torch.float64)


def require_finite(costs: Tensor, name: str) -> None:
    """Raise :class:`InvalidParameterError`, saying where, unless all of ``(B, n, n)`` is finite."""
    if _is_finite(costs):
        return
    for b, i, j in (~torch.isfinite(costs)).nonzero()[:1].tolist():
        raise InvalidParameterError(
            f"{name}[{b}]: expected finite costs, found {costs[b, i, j].item()} in row {i}, column "
            f"{j}; look for overflow where the costs are computed, or for parameters that are not "
            "finite"
        )


def _is_finite(costs: Tensor) -> bool:
    """Are all entries finite? False also where only the sum of their squares is not."""
    if costs.device.type != "cpu":
        return bool(torch.isfinite(costs.sum()))
    matrices = costs.numpy()  # torch waits for all its threads, even for little
    # Infinity and NaN survive any sum; one pass at the speed of the memory settles most cases.
    return math.isfinite(np.einsum("bij,bij->", matrices, matrices))


def require_like(warm: Assignment, costs: Tensor, name: str) -> None:
    """An earlier solution must be of the same shape."""
    if warm.columns.shape != costs.shape[:2]:
        raise InvalidArgumentError(
            f"warm: expected a solution of {name}, columns of shape {tuple(costs.shape[:2])}, "
            f"found {tuple(warm.columns.shape)}; give warm=None where shapes differ"
        )


def chosen(costs: Tensor, columns: Tensor) -> Tensor:
    """The costs ``(B, n)`` that an assignment takes, in float64."""
    if costs.device.type == "cpu":
        return torch.from_numpy(_chosen_here(costs, columns).astype(np.float64))
    return costs.gather(2, columns[..., None])[..., 0].double()


def evenly(n: int, count: int) -> Indices:
    """At most ``count`` of the indices below n, at equal distances."""
    some = min(n, count)
    return np.arange(some) * n // some


def value_of(costs: Tensor, columns: Tensor) -> Tensor:
    """The sums ``(B,)`` of the costs that assignments take, in float64."""
    if costs.device.type == "cpu":
        return torch.from_numpy(_chosen_here(costs, columns).sum(axis=1, dtype=np.float64))
    return chosen(costs, columns).sum(dim=1)


def _chosen_here(costs: Tensor, columns: Tensor) -> NDArray[np.floating]:
    entries = costs.numpy().ravel()
    places = np.arange(0, len(entries), max(1, columns.shape[1])) + columns.numpy().ravel()
    return entries[places].reshape(columns.shape)


def prefer_earlier(result: Assignment, warm: Assignment, costs: Tensor) -> Assignment:
    """Keep earlier solutions that are as good as the new ones, to the rounding of the costs.

    Of many optima, a solver finds any; an iteration that solves again and again must not wander
    among them.
    """
    columns = warm.columns.to(result.columns.device)
    if torch.equal(columns, result.columns):
        return result
    taken = chosen(costs, columns)
    value = taken.sum(dim=1)
    rounding = torch.finfo(costs.dtype).eps * taken.abs().sum(dim=1)
    keep = value >= result.value - rounding
    if not bool(keep.any()):
        return result
    return replace(
        result,
        columns=torch.where(keep[:, None], columns, result.columns),
        value=torch.where(keep, value, result.value),
        gap=None if result.gap is None else result.gap + torch.where(keep, result.value - value, 0),
    )
