"""The interface: check the costs, choose an engine, keep what need not change."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..arguments import check_flag, check_function, check_kind, check_text
from .dense import solve_dense, with_prices
from .device.augmenting_paths import SMALL_UP_TO
from .device.engine import solve_on_device
from .device.kernels import kernels
from .problem import (
    Assignment,
    Engine,
    checked,
    prefer_earlier,
    require_finite,
    require_like,
    value_of,
)
from .sparse.engine import solve_sparse

SPARSE_FROM = 512
ON_HOST_UP_TO = 2**18
ON_HOST_BESIDE_A_KERNEL = 2**14
"""Entries of a batch that are solved by the processor before a device has begun, in general and
where a kernel solves small problems side by side."""
ON_DEVICE_UP_TO = 1024
FUSED_UP_TO = 4096
"""Rows up to which augmenting paths are faster than the sparse engine on a device, without and
with kernels, as ``benchmarks/accelerator.py`` measures."""


def assign(
    costs: Tensor | NDArray[np.generic],
    *,
    warm: Assignment | None = None,
    engine: Engine | None = None,
    certify: bool = False,
    name: str = "costs",
) -> Assignment:
    """Solve a batch of linear assignment problems exactly: the largest sum, one entry per row.

    >>> found = assign(np.array([[[1.0, 2.0], [2.0, 1.0]]]), certify=True)
    >>> found.columns.tolist(), found.value.tolist(), found.gap.tolist()
    ([[1, 0]], [4.0], [0.0])

    Args:
        costs: what to maximise, ``(B, n, n)``. Half precision is computed in float32, integers in
            float64.
        warm: the solution of earlier costs of the same shape. It is returned again if it is still
            optimal to the rounding of the costs; its prices, if there are any, make that cheap to
            see, and are a start for what has changed.
        engine: the solver; by default one that suits the device, the size and the batch.
        certify: find prices, and with them the gap, where the engine gives none.
        name: what errors call the costs.

    Returns:
        The solutions, on the device of the costs. The same input gives the same output.

    Raises:
        InvalidArgumentError: the costs are complex or not ``(B, n, n)``, or ``warm`` differs.
        InvalidParameterError: a cost is infinite or not a number.
    """
    check_text(name, "name", "what errors call the costs")
    check_flag(certify, "certify")
    if engine is not None:
        check_function(engine, "engine", "one of costs and an earlier solution, or None")
    if warm is not None:
        check_kind(warm, Assignment, "warm", "an Assignment or None", "give what assign returned")
    matrices = checked(costs, name)
    if engine is None and _is_all_overhead(matrices):
        there = None if warm is None else warm.to(torch.device("cpu"))
        here = assign(matrices.cpu(), warm=there, certify=certify, name=name)
        return here.to(matrices.device)
    require_finite(matrices, name)
    if warm is not None:
        require_like(warm, matrices, name)
    if matrices.shape[0] == 0 or matrices.shape[2] < 2:
        return _only(matrices)
    engine = engine or suitable(matrices)
    result = engine(matrices, warm)
    check_kind(result, Assignment, "engine", "a function that returns an Assignment")
    if warm is not None:
        result = prefer_earlier(result, warm, matrices)
    return with_prices(result, matrices) if certify and result.prices is None else result


def suitable(costs: Tensor) -> Engine:
    """The fastest engine for a batch of problems, as far as shape and device tell."""
    n = costs.shape[2]
    if costs.device.type == "cpu":
        return solve_dense if n < SPARSE_FROM else solve_sparse
    most = FUSED_UP_TO if kernels(costs.device) else ON_DEVICE_UP_TO
    return solve_on_device if n <= most else solve_sparse


def _is_all_overhead(costs: Tensor) -> bool:
    """Is a batch on a device solved by the processor before the device has begun?"""
    if costs.device.type == "cpu":
        return False
    side_by_side = len(costs) > 1 and costs.shape[2] <= SMALL_UP_TO and kernels(costs.device)
    return costs.numel() <= (ON_HOST_BESIDE_A_KERNEL if side_by_side else ON_HOST_UP_TO)


def _only(costs: Tensor) -> Assignment:
    """The one solution of problems of at most one row, and of none."""
    columns = torch.zeros(costs.shape[:2], dtype=torch.int64, device=costs.device)
    value = value_of(costs, columns)
    prices = torch.zeros(columns.shape, dtype=torch.float64, device=costs.device)
    return Assignment(columns, value, prices, torch.zeros_like(value))
