"""Which step of weight matching takes the time: functions of the library, wrapped by clocks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
from torch import Tensor

from fxrebasin.assignment import Assignment, assign
from fxrebasin.matching import block_solver, descent, relaxed, tree_solver
from fxrebasin.matching.cost_matrices import CostMatrix
from fxrebasin.matching.inner_products import InnerProducts
from fxrebasin.matching.trees import trees_of
from fxrebasin.objectives import weights
from fxrebasin.symmetry.group import Symmetry

PRODUCTS, ASSIGNMENT, EVALUATION = "products", "assignment", "evaluation"


class Solved(NamedTuple):
    """Assignment problems of one size, solved in batches of one size."""

    batch: int
    size: int
    calls: int
    seconds: float


class Steps:
    """Seconds per step, those of steps inside it left out, and what was done in them."""

    def __init__(self) -> None:
        self.seconds = {PRODUCTS: 0.0, ASSIGNMENT: 0.0, EVALUATION: 0.0}
        self.flops = 0
        self._solved: dict[tuple[int, int], list[float]] = {}
        self._inside = 0.0

    @property
    def solved(self) -> tuple[Solved, ...]:
        return tuple(Solved(*key, len(s), sum(s)) for key, s in sorted(self._solved.items()))

    def timed(self, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            before, self._inside = self._inside, 0.0
            begin = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                elapsed = time.perf_counter() - begin
                self.seconds[step] += elapsed - self._inside
                self._inside = before + elapsed

        return wrapper

    def assign(self, costs: Tensor, **kwargs: Any) -> Assignment:
        begin = time.perf_counter()
        found = assign(costs, **kwargs)
        key = (costs.shape[0], costs.shape[2])
        self._solved.setdefault(key, []).append(time.perf_counter() - begin)
        return found

    def counted(self, multiply: Callable[..., None]) -> Callable[..., None]:
        def wrapper(cost: CostMatrix, a: Tensor, b: Tensor, sign: float) -> None:
            self.flops += 2 * cost.units * a.numel()
            multiply(cost, a, b, sign)

        return wrapper


@contextmanager
def steps_timed() -> Iterator[Steps]:
    """What weight matching does while this lasts.

    >>> with steps_timed() as steps:
    ...     pass
    >>> steps.seconds
    {'products': 0.0, 'assignment': 0.0, 'evaluation': 0.0}
    """
    steps = Steps()
    wrapped: list[tuple[object, str, Callable[..., Any]]] = [
        (CostMatrix, "update", steps.timed(PRODUCTS, CostMatrix.update)),
        (CostMatrix, "_multiply", steps.counted(CostMatrix._multiply)),
        (InnerProducts, "value_at", steps.timed(EVALUATION, InnerProducts.value_at)),
        (InnerProducts, "change", steps.timed(EVALUATION, InnerProducts.change)),
    ]
    solver = steps.timed(ASSIGNMENT, steps.assign)
    solving = (block_solver, descent, relaxed, tree_solver)
    wrapped += [(module, "assign", solver) for module in solving]
    with ExitStack() as stack:
        for owner, name, wrapper in wrapped:
            stack.enter_context(patch.object(owner, name, wrapper))
        yield steps


class Demand(NamedTuple):
    """What the cost matrices of all blocks take, whichever weights there are."""

    flops: int
    """Of computing each of them once, in full."""
    nbytes: int
    """Of all of them together."""


def demand(symmetry: Symmetry, state_dict: dict[str, Tensor]) -> Demand:
    objective = weights(symmetry, state_dict, state_dict)
    flops = nbytes = 0
    for tree in trees_of(objective):
        nbytes += tree.nbytes
        for cost in tree.costs.values():
            for occurrence, _ in cost.parts:
                sizes = objective.terms[occurrence.term].a.shape
                across = int(np.prod(sizes)) // sizes[occurrence.group]
                flops += 2 * cost.units * occurrence.segment.positions.size * across
    return Demand(flops, nbytes)
