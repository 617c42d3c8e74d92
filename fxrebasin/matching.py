"""Block coordinate descent: align the units of B with those of A, block by block.

Blocks that are nested in one another (heads and the features inside them, groups and the channels
inside them) are solved together, from the inside out: for every pair of parents the best
assignment of their children is found first, and what it gains joins the gains of pairing the
parents. A step is kept only when the true objective rose: a block on two axes of one tensor makes
the step a linearisation, and so do siblings that share a tensor.

Source: S. Ainsworth, J. Hayase and S. Srinivasa, "Git Re-Basin", ICLR 2023, algorithm 1,
extended to nested blocks.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from tqdm.auto import tqdm

from .descent import Descent
from .errors import ConvergenceWarning, InvalidArgumentError
from .objectives import WeightMatching
from .permutation import Permutation
from .symmetry import Symmetry
from .schedules import random_order

RELATIVE_GAIN = 1e-9
"""A step must raise the objective by more than this share of the terms it touches, or rounding
could make the descent cycle."""


@dataclass(frozen=True)
class Alignment:
    """The result of aligning model B with model A."""

    permutation: Permutation
    objective_before: float
    objective_after: float
    history: tuple[float, ...]
    """The objective after each sweep."""
    converged: bool
    seconds: float

    @property
    def sweeps(self) -> int:
        return len(self.history)

    def __str__(self) -> str:
        state = "converged" if self.converged else "stopped at the limit"
        return (
            f"objective {self.objective_before:,.4f} -> {self.objective_after:,.4f} "
            f"in {self.sweeps} sweeps, {state}, {self.seconds:.1f} s; {self.permutation!r}"
        )


def weight_matching(
    symmetry: Symmetry,
    state_dict: Mapping[str, torch.Tensor],
    *,
    to: Mapping[str, torch.Tensor],
    seed: int = 0,
    max_sweeps: int = 100,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Alignment:
    """Find the permutation of ``state_dict`` (B) whose weights are closest to those of ``to`` (A).

    Args:
        symmetry: the group, as found by :func:`fxrebasin.analyze`.
        state_dict: the weights of B; not changed.
        to: the weights of A; not changed. float16 and bfloat16 are computed in float32.
        seed: of the order in which blocks are visited; the result is deterministic for a seed.
        max_sweeps: visits of every block before giving up.
        device: where to compute cost matrices; by default where A is.
        progress: show a progress bar.

    Raises:
        ArchitectureMismatchError, InvalidParameterError: see :class:`WeightMatching`.
        InvalidArgumentError: ``max_sweeps`` is not positive.

    Warns:
        ConvergenceWarning: the iteration limit was hit before a sweep changed nothing.
    """
    if max_sweeps < 1:
        raise InvalidArgumentError(f"max_sweeps must be at least 1, got {max_sweeps}")
    start = time.perf_counter()
    objective = WeightMatching(symmetry, state_dict, to, device=device)
    descent = Descent(objective, symmetry.identity().indices)
    before = descent.total
    descent.rebuild(range(len(descent.trees)))
    if descent.total <= before:
        descent.move_to(symmetry.identity().indices)
    history: list[float] = []
    converged = False
    generator = np.random.default_rng(seed)
    with tqdm(total=None, desc="weight matching", disable=None if progress else True) as bar:
        while not converged and len(history) < max_sweeps:
            order = random_order(len(descent.trees), len(history), generator)
            changed = descent.sweep(order)
            bar.update(len(descent.trees))
            bar.set_postfix(sweep=len(history) + 1, objective=f"{descent.total:.6g}")
            history.append(descent.total)
            converged = not changed
    descent.evaluate()
    history = [min(value, descent.total) for value in history[:-1]] + [descent.total]
    if not converged:
        warnings.warn(
            f"weight matching stopped after {max_sweeps} sweeps, while blocks were still changing",
            ConvergenceWarning,
            stacklevel=2,
        )
    seconds = time.perf_counter() - start
    return Alignment(descent.permutation, before, descent.total, tuple(history), converged, seconds)
