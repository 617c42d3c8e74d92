"""Weight matching as its authors published it: the reference that speed is compared with.

One permutation after the other, in random order, is set to the solution of one linear assignment
problem, in which all others are held; until a sweep changes nothing. Nothing is cached, skipped or
chosen cleverly.

Source: S. Ainsworth, J. Hayase and S. Srinivasa, "Git Re-Basin: Merging Models modulo Permutation
Symmetries", ICLR 2023, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from benchmarks.align.plain_spec import Indices, Part, PlainSpec

RELATIVE_GAIN = 1e-7
"""An assignment must gain more than this share of the costs that it sums, in float32, or rounding
could keep the descent going for ever."""


@dataclass(frozen=True)
class Matching:
    """What the descent came to."""

    permutations: Mapping[str, Indices]
    """Per permutation, of every place the unit of B that takes it."""
    sweeps: int


def match(
    spec: PlainSpec,
    b: Mapping[str, Tensor],
    *,
    to: Mapping[str, Tensor],
    seed: int = 0,
    max_sweeps: int = 100,
) -> Matching:
    """Permute the weights of B so that they come close to those of A.

    Args:
        spec: the permutations, and what each moves.
        b: the weights that are permuted.
        to: the weights of A.
        seed: of the order in which permutations are visited.
        max_sweeps: after which the descent ends in any case.
    """
    permutations = {name: np.arange(n) for name, n in spec.sizes.items()}
    moved_by: dict[str, list[tuple[str, Part]]] = {name: [] for name in spec.sizes}
    for tensor, parts in spec.parts.items():
        for part in parts:
            moved_by[part.permutation].append((tensor, part))
    generator = np.random.default_rng(seed)
    names = list(spec.sizes)
    sweeps, changed = 0, True
    while changed and sweeps < max_sweeps:
        changed = False
        for k in generator.permutation(len(names)):
            name = names[k]
            n = spec.sizes[name]
            costs = torch.zeros(n, n)
            for tensor, part in moved_by[name]:
                rows_a = rows(to[tensor], part)
                rows_b = rows(permuted(spec, permutations, tensor, b, but=part.axis), part)
                costs += rows_a @ rows_b.T
            _, best = linear_sum_assignment(costs.numpy(), maximize=True)
            if _gains(costs, permutations[name], best):
                permutations[name] = best
                changed = True
        sweeps += 1
    return Matching(permutations, sweeps)


def _gains(costs: Tensor, old: Indices, new: Indices) -> bool:
    places = np.arange(len(costs))
    of_old, of_new = (costs.numpy()[places, taken].astype(np.float64) for taken in (old, new))
    return bool(of_new.sum() - of_old.sum() > RELATIVE_GAIN * np.abs(of_old).sum())


def rows(tensor: Tensor, part: Part) -> Tensor:
    """The entries of a part as a matrix, with a row per unit."""
    positions = torch.from_numpy(part.positions.ravel())
    return tensor.movedim(part.axis, 0)[positions].reshape(len(part.positions), -1)


def permuted(
    spec: PlainSpec,
    permutations: Mapping[str, Indices],
    name: str,
    state: Mapping[str, Tensor],
    *,
    but: int | None = None,
) -> Tensor:
    """A tensor with the entries along its axes permuted, all but one axis where that is given."""
    tensor = state[name]
    for axis in {part.axis for part in spec.parts[name]} - {but}:
        source = np.arange(tensor.shape[axis])
        for part in spec.parts[name]:
            if part.axis == axis:
                source[part.positions] = part.positions[permutations[part.permutation]]
        tensor = tensor.index_select(axis, torch.from_numpy(source))
    return tensor
