"""What every merge method is given, checked once, and what all of them do with it.

Memory: models are read one at a time, tensor by tensor, and the originals are kept as they are:
what changes is a permutation for each. What is held at once is a running mean of the size of one
model in float32, one model or another such mean that is aligned with it, and what the solver keeps.
However many models are merged, that is the same: of linear layers in files of 51 MB, two or five,
``mean`` held 1.2 times one model besides what is mapped from the files, ``to_reference`` 1.3 times
and ``many`` 2.3 times (a C library that does not return what is freed at once may hold more).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..arguments import check_device, check_flag, check_function, check_shares, check_whole, refuse
from ..errors import ArchitectureMismatchError
from ..matching.alignment import check_alignment, check_products
from ..matching.inner_products import InnerProducts
from ..matching.solvers import Solver
from ..matching.transforms.acting import value_at
from ..models.validation import check_state_dict, explain_missing
from ..objectives import Objective
from ..symmetry.group import Symmetry, check_symmetry
from ..symmetry.permutation import Permutation
from ..symmetry.transform import Transform
from .average import RunningMean, State
from .merged import Merged

ENOUGH = 1e-9
"""A step must raise the objective by more than this share of it, or it is the last."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Some models to merge, and how they are compared and aligned."""

    symmetry: Symmetry
    models: Sequence[State]
    weights: tuple[float, ...]
    """Of the models; they sum up to 1."""
    objective: Objective
    solver: Solver
    seed: int
    device: torch.device | None
    progress: bool
    permutes_only: bool = False

    def __len__(self) -> int:
        return len(self.models)

    @property
    def unmoved(self) -> tuple[Permutation, ...]:
        """Every model as it came."""
        return (Permutation.identity(self.symmetry),) * len(self)

    def products(self, state: State, target: State) -> InnerProducts:
        """The objective of a state dict that is permuted with one that is not."""
        found = self.objective(self.symmetry, state, target, device=self.device)
        check_products(found)
        return found.over("permutations") if self.permutes_only else found

    def permuting(self) -> Problem:
        """The same, of permutations alone, whatever else the objective allows."""
        return replace(self, permutes_only=True)

    def align(self, state: State, target: State, *, start: Transform | None = None) -> Transform:
        """The permutation of a state dict that brings it closest to another; never one that is
        worse than ``start``."""
        products = self.products(state, target)
        found = self.solver(products, start=start, seed=self.seed, progress=self.progress)
        check_alignment(found)
        permutation = found.permutation
        if start is not None and not value_at(products, permutation) > value_at(products, start):
            return start
        return permutation

    def mean(
        self, permutations: Sequence[Transform], members: Iterable[int] | None = None
    ) -> RunningMean:
        """The weighted mean of permuted models, by default of all."""
        result = RunningMean(self.symmetry, self.device)
        for k in range(len(self)) if members is None else members:
            result.include(self.models[k], permutations[k].move, self.weights[k])
        return result

    def align_in_turn(self, order: Sequence[int]) -> list[Transform]:
        """Align every model with the mean of those that come before it in an order."""
        found: list[Transform] = list(self.unmoved)
        mean = self.mean(found, order[:1])
        for k in order[1:]:
            found[k] = self.align(self.models[k], mean)
            mean.include(self.models[k], found[k].move, self.weights[k])
        return found

    def value(self, permutations: Sequence[Transform]) -> float:
        """The weighted sum of the models' objectives with their mean.

        For inner products of weights it is the squared norm of the mean, and thus a constant less
        the weighted sum of the squared distances from it.
        """
        mean = self.mean(permutations)
        return math.fsum(
            weight * value_at(self.products(self.models[k], mean), permutations[k])
            for k, weight in enumerate(self.weights)
            if weight
        )

    def merged(self, permutations: Sequence[Transform], history: Iterable[float]) -> Merged:
        """The mean of permuted models, in the frame of the first."""
        back = permutations[0].inverse()
        framed = tuple(back.compose(p) for p in permutations)
        state_dict = self.mean(framed).finish(self.models[0], framed[0].move)
        return Merged(state_dict, framed, tuple(history))


def pose(
    symmetry: Symmetry,
    models: Sequence[State],
    weights: Sequence[float] | None,
    objective: Objective,
    solver: Solver,
    seed: int,
    device: torch.device | str | None,
    progress: bool,
) -> Problem:
    """Check what a merge method is given.

    Raises:
        InvalidArgumentError: an argument is none, or makes no sense.
        ArchitectureMismatchError: the models' state dicts do not have the same keys, or none that
            the symmetry knows.
    """
    check_symmetry(symmetry)
    check_models(symmetry, models)
    check_function(objective, "objective", "fr.objectives.weights")
    check_function(solver, "solver", "fr.solvers.coordinate_descent")
    check_whole(seed, "seed", least=0)
    check_device(device)
    check_flag(progress, "progress")
    where = _device_of(symmetry, models[0]) if device is None else torch.device(device)
    shares = check_shares(weights, len(models))
    return Problem(symmetry, models, shares, objective, solver, seed, where, progress)


def check_models(symmetry: Symmetry, models: object) -> None:
    """Refuse what is no list of state dicts of one architecture. No tensor is read.

    Raises:
        InvalidArgumentError: naming the argument.
        ArchitectureMismatchError: naming the first key that differs.
    """
    expected = "a list of state dicts, of one model or more"
    single = isinstance(models, (str, bytes, Mapping, torch.nn.Module))
    if single or not isinstance(models, Sequence) or not len(models):
        refuse("models", expected, models, "give [one.state_dict(), other.state_dict()]")
    for k, state in enumerate(models):
        check_state_dict(state, f"models[{k}]")
    known = [name for p in symmetry.parameters for name in p.names]
    for k, state in enumerate(models):
        if known and not any(name in state for name in known):
            raise ArchitectureMismatchError(explain_missing(known, state, f"models[{k}]"))
        differing = [name for name in models[0] if name not in state]
        differing += [name for name in state if name not in models[0]]
        if differing:
            has, lacks = (k, 0) if differing[0] in state else (0, k)
            raise ArchitectureMismatchError(
                f"models[{has}] has {differing[0]!r}, which models[{lacks}] does not have; all "
                "models must have the same architecture"
            )


def _device_of(symmetry: Symmetry, state: State) -> torch.device | None:
    """Where the first tensor is that moves."""
    moving = (name for p in symmetry.parameters if p.groups for name in p.names if name in state)
    tensor = next((state[name] for name in moving), None)
    return tensor.device if isinstance(tensor, Tensor) else None
