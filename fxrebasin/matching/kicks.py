"""Kicks out of an optimum: what a search for better optima tries in turn.

Each function moves a descent away from the best permutation known so far; the descent then climbs
again, and the better of the two results is kept. One that takes long asks whether time is over.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ..symmetry.permutation import Permutation
from .descent import Descent
from .inner_products import Indices
from .relaxed import maximise_relaxed
from .sorted_weights import match_signatures

IsOver = Callable[[], bool]
Kick = Callable[[Descent, dict[str, Indices], np.random.Generator, IsOver], None]


ANNEALING_SWEEPS = (20, 80, 320)
MOST_NOISE = (0.05, 0.2)
"""In standard deviations of the gains: more only forgets, less finds nothing else."""


def anneal(
    descent: Descent, best: dict[str, Indices], generator: np.random.Generator, is_over: IsOver
) -> None:
    """Sweeps in which gains carry noise, less and less of it: simulated annealing with
    assignments for moves.

    Source: S. Kirkpatrick, C. D. Gelatt and M. P. Vecchi, "Optimization by simulated annealing",
    Science 220 (1983).
    """
    descent.return_to(best)
    drawn = torch.Generator().manual_seed(int(generator.integers(2**63)))
    sweeps = int(generator.choice(ANNEALING_SWEEPS))
    most = float(generator.uniform(*MOST_NOISE))
    for noise in np.linspace(most, 0, sweeps, endpoint=False).tolist():
        for k in generator.permutation(len(descent.trees)).tolist():
            tree = descent.trees[k]
            if tree.is_flat and tree.terms and not tree.bilinear:
                descent.disturb(k, noise, drawn)
            else:
                descent.visit([k])
        if is_over():
            break
    descent.evaluate()


def hold_out(
    descent: Descent, best: dict[str, Indices], generator: np.random.Generator, is_over: IsOver
) -> None:
    """A joint move of a tree and its neighbours: each half of its units is placed by neighbours
    that were solved with that half masked."""
    flat = [k for k, tree in enumerate(descent.trees) if tree.is_flat and tree.terms]
    if flat:
        descent.return_to(best)
        degrees = np.array([descent.shared.degree[k] + 1 for k in flat])
        k = int(generator.choice(flat, p=degrees / degrees.sum()))
        order = generator.permutation(descent.symmetry.blocks[descent.trees[k].root].size)
        for half in np.array_split(order, 2):
            descent.hold_out(k, half)


def relax(
    descent: Descent, best: dict[str, Indices], generator: np.random.Generator, is_over: IsOver
) -> None:
    """Frank-Wolfe over all blocks that are not nested, from a mixture of the best permutation and
    the uniform matrix."""
    flat = [tree for tree in descent.trees if tree.is_flat and tree.terms]
    if flat:
        spread = float(generator.uniform())
        found = maximise_relaxed(descent.objective, best, flat, spread=spread, is_over=is_over)
        descent.return_to({**best, **found})


def restart(
    descent: Descent, best: dict[str, Indices], generator: np.random.Generator, is_over: IsOver
) -> None:
    """A random permutation, every block its own."""
    seed = int(generator.integers(2**63))
    drawn = Permutation.random(descent.symmetry, torch.Generator().manual_seed(seed))
    descent.move_to(drawn)


def compare_signatures(
    descent: Descent, best: dict[str, Indices], generator: np.random.Generator, is_over: IsOver
) -> None:
    """Match the units of one tree by what no other permutation changes, and rebuild the rest."""
    trees = [k for k, tree in enumerate(descent.trees) if tree.is_flat and tree.terms]
    if trees:
        k = int(generator.choice(trees))
        descent.return_to({**best, **match_signatures(descent.objective, descent.trees[k])})
        descent.rebuild([other for other in range(len(descent.trees)) if other != k])
