"""What every solver keeps to, and that one of a user's own is taken everywhere."""

from __future__ import annotations

import time
from functools import partial

import pytest
import torch
from random_pairs import random_pair
from torch import nn

import fxrebasin as fr
from benchmarks.measuring.random_weights import randomise
from fxrebasin.errors import InvalidArgumentError
from fxrebasin.matching.inner_products import InnerProducts
from fxrebasin.matching.progress import Callback
from fxrebasin.matching.solvers import Solver, coordinate_descent, frank_wolfe
from fxrebasin.matching.transforms.acting import value_at
from fxrebasin.objectives import weights

torch.set_num_threads(1)

NAMES = ("residual_mlp", "grouped_convolution", "torch_attention", "lstm")
SOLVERS: dict[str, Solver] = {
    "coordinate_descent": coordinate_descent,
    "without sweeps": partial(coordinate_descent, max_sweeps=0),
    "with budget": partial(coordinate_descent, budget=fr.Budget(rounds=2)),
    "frank_wolfe": frank_wolfe,
    "frank_wolfe from a corner": partial(frank_wolfe, spread=0.0, steps=5, max_rounds=3),
}


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_is_so(name: str, solver: Solver) -> None:
    symmetry, a, b = random_pair(name)
    objective = weights(symmetry, b, a)
    steps: list[fr.Step] = []
    found = solver(objective, callback=steps.append, progress=False)
    value = value_at(objective, found.permutation)
    assert found.objective_after == pytest.approx(value, rel=1e-12)
    assert found.objective_after >= found.objective_before
    assert max(step.objective for step in steps) <= found.objective_after + 1e-9 * abs(value)
    again = solver(objective, progress=False)
    assert again.permutation == found.permutation


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_stopped_at_the_first_step(name: str, solver: Solver) -> None:
    symmetry, a, b = random_pair(name)

    def stop(step: fr.Step) -> None:
        seen.append(step.objective)
        raise StopIteration

    seen: list[float] = []
    found = solver(weights(symmetry, b, a), callback=stop, progress=False)
    assert found.objective_after == pytest.approx(seen[0], rel=1e-9)


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_it_begins_where_it_is_told_to(solver: Solver) -> None:
    symmetry, a, _ = random_pair("residual_mlp")
    planted = fr.Permutation.random(symmetry, torch.Generator().manual_seed(4))
    objective = weights(symmetry, planted.inverse().apply(a), a)
    assert solver(objective, start=planted, progress=False).permutation == planted
    other = fr.Permutation.identity(random_pair("lstm")[0])
    with pytest.raises(InvalidArgumentError, match="start: expected a permutation of the blocks"):
        solver(objective, start=other, progress=False)


@pytest.mark.parametrize("options", [{"steps": 0}, {"spread": 1.5}, {"max_rounds": 0}])
def test_options_of_frank_wolfe_that_make_no_sense(options: dict[str, float]) -> None:
    symmetry, a, b = random_pair("residual_mlp")
    with pytest.raises(InvalidArgumentError, match="at least 1 and spread from 0 to 1, got"):
        frank_wolfe(weights(symmetry, b, a), **options)  # type: ignore[arg-type]


def sampled(
    objective: InnerProducts,
    /,
    *,
    start: fr.Permutation | None = None,
    seed: int = 0,
    callback: Callback | None = None,
    progress: bool = True,
    draws: int = 50,
) -> fr.Alignment:
    """The best of some random permutations: a solver in fifteen lines."""
    begin = time.perf_counter()
    symmetry, generator = objective.symmetry, torch.Generator().manual_seed(seed)
    tried = [
        start or fr.Permutation.identity(symmetry),
        *(fr.Permutation.random(symmetry, generator) for _ in range(draws)),
    ]
    terms = range(len(objective.terms))
    values = [
        sum(objective.value_at(t, objective.sources(p.indices, t)) for t in terms) for p in tried
    ]
    best = max(range(len(tried)), key=values.__getitem__)
    seconds = time.perf_counter() - begin
    return fr.Alignment(tried[best], values[0], values[best], (), True, seconds, {})


def test_a_solver_of_ones_own() -> None:
    x = torch.randn(2, 3, dtype=torch.float64)
    a, b = (
        randomise(nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2)), seed)
        for seed in (1, 2)
    )
    symmetry = fr.analyze(b, args=(x,))
    solver: Solver = partial(sampled, draws=200)
    best = fr.match(symmetry, b.state_dict(), to=a.state_dict(), progress=False)
    assert fr.match(symmetry, b.state_dict(), to=a.state_dict(), solver=solver) == best
    assert fr.rebasin(b, to=a, args=(x,), solver=solver).report.permutation == best
    assert fr.activation_matching(b, to=a, args=(x,), solver=solver).sweeps == 0
