"""Scales of units that give weights their least norm: a convex problem in their logarithms.

A weight of a unit that is scaled by ``exp(e . x)`` contributes ``w exp(2 e . x)``, where ``w`` is
the sum of its squares. The sum of such terms has a least value only in the directions in which some
terms grow on either side; in others, such as the scale of what batch norm divides by its spread,
terms would shrink for ever. Which terms take part in a balance is found by a linear program, and
the scales are moved in those directions alone.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog

MOST_STEPS = 200
MOST_HALVINGS = 6
ROUNDING = 1e-12


def least_norm_scales(exponents: torch.Tensor, squares: torch.Tensor) -> torch.Tensor:
    """Logarithms of scales at which the sum of ``squares * exp(2 exponents @ x)`` is least.

    >>> opposite, squares = torch.tensor([[1], [-1]]), torch.tensor([[[16.0]], [[1.0]]])
    >>> least_norm_scales(opposite.double(), squares.double()).exp()  # both become 4
    tensor([[[0.5000]]], dtype=torch.float64)

    Args:
        exponents: float64 of shape ``(terms, scales)``.
        squares: float64 of shape ``(terms, count, size)``: per unit, the terms at ``x = 0``.

    Returns:
        Float64 of shape ``(scales, count, size)``; zero in directions in which there is no least
        value.
    """
    terms, count, size = squares.shape
    flat = squares.reshape(terms, -1)
    found = flat.new_zeros(exponents.shape[1], flat.shape[1])
    patterns, which = np.unique((flat > 0).numpy(), axis=1, return_inverse=True)
    for k, is_used in enumerate(patterns.T):
        units = torch.from_numpy(np.flatnonzero(which.ravel() == k))
        balanced = balanced_terms(exponents.numpy(), is_used)
        if balanced.any():
            rows = torch.from_numpy(np.flatnonzero(balanced))
            found[:, units] = _newton(exponents[rows], flat[rows][:, units])
    return found.reshape(-1, count, size)


def balanced_terms(exponents: NDArray[np.float64], is_used: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which terms take part in a combination, with positive factors, of exponents that is zero.

    >>> both, alone = [[1.0, 0], [-1, 0], [0, 1]], np.array([True, True, True])
    >>> balanced_terms(np.array(both), alone)
    array([ True,  True, False])
    """
    rows = exponents[is_used]
    n = len(rows)
    result = np.zeros(len(exponents), dtype=bool)
    if n and rows.shape[1] == 1:  # without the linear program, which takes long for so little
        is_balanced = rows.min() < 0 < rows.max()
        result[is_used] = is_balanced and rows[:, 0] != 0
    elif n:
        equations = np.hstack([rows.T, rows.T])  # a factor is a part of at most one, and the rest
        bounds = [(0, 1)] * n + [(0, None)] * n
        weights = np.r_[-np.ones(n), np.zeros(n)]
        solved = linprog(weights, A_eq=equations, b_eq=np.zeros(rows.shape[1]), bounds=bounds)
        result[is_used] = solved.x[:n] > 0.5
    return result


def _newton(exponents: torch.Tensor, squares: torch.Tensor) -> torch.Tensor:
    """Of shape ``(scales, units)``: the least point in the span of the exponents."""
    _, singular, directions = torch.linalg.svd(exponents, full_matrices=False)
    basis = directions[singular > 1e-9 * singular[0]].T
    inside, logs = exponents @ basis, squares.log()
    x = squares.new_zeros(inside.shape[1], squares.shape[1])
    ridge = 1e-14 * torch.eye(inside.shape[1], dtype=torch.float64)
    for _ in range(MOST_STEPS):
        total = torch.logsumexp(logs + 2 * inside @ x, dim=0)
        shares = (logs + 2 * inside @ x - total).exp()
        slope = 2 * torch.einsum("tk,tu->uk", inside, shares)
        bend = 4 * torch.einsum("tk,tj,tu->ukj", inside, inside, shares) + ridge
        step = torch.linalg.solve(bend, slope[:, :, None])[:, :, 0].clamp(-5, 5).T
        for _ in range(MOST_HALVINGS):
            is_worse = torch.logsumexp(logs + 2 * inside @ (x - step), dim=0) > total + ROUNDING
            step = torch.where(is_worse, step / 2, step)
        x = x - torch.where(is_worse, 0, step)
        if step.abs().max() < 1e-13:
            break
    return basis @ x


def scales_of_variances(
    exponents: torch.Tensor, logarithms: torch.Tensor, balanced: torch.Tensor
) -> torch.Tensor:
    """Logarithms of scales that set running variances to one and change no balanced term.

    Args:
        exponents: float64 of shape ``(variances, scales)``.
        logarithms: float64 of shape ``(variances, count, size)``: those of what batch norm divides
            by.
        balanced: float64 of shape ``(terms, scales)``: the exponents that a balance holds.
    """
    k = exponents.shape[1]
    free = torch.eye(k, dtype=torch.float64)
    if len(balanced):
        free = free - torch.linalg.pinv(balanced) @ balanced
    solved = free @ torch.linalg.pinv(exponents @ free)
    return -torch.einsum("kv,vqn->kqn", solved, logarithms)
