"""What a budget buys: never a worse optimum, and better ones where they are known to exist."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from random_pairs import State, random_pair
from torch import nn

import fxrebasin as fr
from benchmarks.measuring.random_weights import randomise
from fxrebasin import Alignment, Budget, Symmetry
from fxrebasin.errors import InvalidArgumentError
from fxrebasin.matching.climbing import climb
from fxrebasin.matching.descent import Descent
from fxrebasin.matching.inner_products import InnerProducts
from fxrebasin.matching.relaxed import maximise_relaxed
from fxrebasin.matching.schedules import Schedule
from fxrebasin.matching.search import KICKS
from fxrebasin.matching.solvers import coordinate_descent
from fxrebasin.matching.sorted_weights import match_signatures, upper_bound
from fxrebasin.objectives import weights

torch.set_num_threads(1)

NAMES = ["mlp", "attention_from_a_fused_projection", "grouped_convolution", "lstm"]


@cache
def deep_case() -> tuple[Symmetry, State, State]:
    """A chain of layers, which has many optima."""

    def build(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        layers = [nn.Linear(24, 24) for _ in range(4)]
        return nn.Sequential(nn.Linear(8, 24), *layers, nn.Linear(24, 4))

    symmetry = fr.analyze(build(0), args=(torch.zeros(1, 8),))
    return symmetry, dict(build(1).state_dict()), dict(build(2).state_dict())


def match(
    symmetry: Symmetry,
    a: State,
    b: State,
    *,
    seed: int = 0,
    vector_weight: float = 1,
    **options: Any,
) -> Alignment:
    objective = weights(symmetry, b, a, vector_weight=vector_weight).over("permutations")
    return coordinate_descent(objective, seed=seed, progress=False, **options)


def descent_of(name: str) -> Descent:
    symmetry, a, b = random_pair(name)
    return Descent(weights(symmetry, b, a), fr.Permutation.identity(symmetry).indices)


def value(objective: InnerProducts, indices: Any) -> float:
    terms = range(len(objective.terms))
    return sum(objective.value_at(t, objective.sources(indices, t)) for t in terms)


@pytest.mark.parametrize("name", NAMES)
def test_a_budget_never_costs_anything(name: str) -> None:
    symmetry, a, b = random_pair(name)
    found = match(symmetry, a, b, budget=Budget(rounds=6))
    assert found.objective_after >= match(symmetry, a, b).objective_after
    assert len(found.rounds) == 6
    assert {r.kick for r in found.rounds[: len(KICKS)]} == set(KICKS)
    best = found.history[-1] + sum(r.gained for r in found.rounds)
    assert found.objective_after == pytest.approx(best, rel=1e-9)
    moved = found.permutation.apply(b)
    objective = weights(symmetry, moved, a)
    assert value(objective, fr.Permutation.identity(symmetry).indices) == pytest.approx(
        found.objective_after
    )


def test_a_budget_finds_better_optima() -> None:
    symmetry, a, b = deep_case()
    plain = match(symmetry, a, b)
    found = match(symmetry, a, b, budget=Budget(rounds=24))
    rise = plain.objective_after - plain.objective_before
    assert found.objective_after > plain.objective_after + 0.01 * rise


def test_rounds_are_deterministic_for_a_seed() -> None:
    symmetry, a, b = deep_case()
    one, two = (match(symmetry, a, b, budget=Budget(rounds=5), seed=3) for _ in range(2))
    assert one.permutation == two.permutation
    assert [r.objective for r in one.rounds] == [r.objective for r in two.rounds]


def test_a_budget_of_no_time_is_one_descent() -> None:
    symmetry, a, b = deep_case()
    found = match(symmetry, a, b, budget=Budget(seconds=0))
    assert found.rounds == ()
    assert found.permutation == match(symmetry, a, b).permutation


def test_a_search_needs_sweeps() -> None:
    symmetry, a, b = deep_case()
    with pytest.raises(InvalidArgumentError, match=r"budget: .* descends, found max_sweeps=0"):
        match(symmetry, a, b, budget=Budget(rounds=1), max_sweeps=0)


def test_a_budget_needs_a_limit() -> None:
    with pytest.raises(InvalidArgumentError, match="needs a limit: pass seconds="):
        Budget()
    with pytest.raises(InvalidArgumentError, match="from 0 upwards"):
        Budget(seconds=-1)
    with pytest.raises(InvalidArgumentError, match="from 0 upwards"):
        Budget(seconds=float("nan"))
    with pytest.raises(InvalidArgumentError, match="a whole number"):
        Budget(rounds=1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kick", KICKS.values(), ids=KICKS)
def test_a_kick_leaves_a_valid_permutation_and_its_value(name: str, kick: Any) -> None:
    descent = descent_of(name)
    best = dict(descent.indices)
    kick(descent, best, np.random.default_rng(0), lambda: False)
    assert best.keys() == descent.permutation.indices.keys()  # which checks every row
    assert descent.total == pytest.approx(value(descent.objective, descent.indices), rel=1e-9)


@pytest.mark.parametrize("name", [*NAMES, "rotary_attention", "TiedLinears"])
def test_no_permutation_exceeds_the_bound(name: str) -> None:
    symmetry, a, b = random_pair(name)
    objective = weights(symmetry, b, a)
    limit = upper_bound(objective)
    found = match(symmetry, a, b, budget=Budget(rounds=8), bound=True)
    assert found.upper_bound == pytest.approx(limit)
    assert found.objective_after <= limit * (1 + 1e-9)
    for seed in range(20):
        sample = fr.Permutation.random(symmetry, torch.Generator().manual_seed(seed))
        assert value(objective, sample.indices) <= limit
    assert f"at most {limit:,.4f}" in str(found)


def test_the_bound_is_reached_where_one_block_alone_moves() -> None:
    """Then it is the optimum of one assignment."""
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    symmetry = fr.analyze(net, args=(torch.zeros(1, 4),))
    a, b = (randomise(copy.deepcopy(net), s).state_dict() for s in (1, 2))
    found = match(symmetry, dict(a), dict(b), bound=True)
    assert found.objective_after == pytest.approx(found.upper_bound, rel=1e-9)


def test_signatures_find_what_was_planted() -> None:
    """Without knowing where any neighbour is."""
    symmetry, a, _ = deep_case()
    planted = fr.Permutation.random(symmetry, torch.Generator().manual_seed(0))
    descent = Descent(
        weights(symmetry, planted.apply(a), a), fr.Permutation.identity(symmetry).indices
    )
    for tree in descent.trees:
        found = match_signatures(descent.objective, tree)[tree.root]
        assert np.array_equal(found, planted.inverse().indices[tree.root])


def test_frank_wolfe_undoes_a_planted_permutation_of_all_blocks_at_once() -> None:
    symmetry, a, _ = deep_case()
    planted = fr.Permutation.random(symmetry, torch.Generator().manual_seed(0))
    descent = Descent(
        weights(symmetry, planted.apply(a), a), fr.Permutation.identity(symmetry).indices
    )
    found = maximise_relaxed(descent.objective, descent.indices, descent.trees, spread=1.0)
    best = value(descent.objective, planted.inverse().indices)
    assert value(descent.objective, found) == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_frank_wolfe_returns_permutations(spread: float) -> None:
    descent = descent_of("lstm")
    found = maximise_relaxed(descent.objective, descent.indices, descent.trees, spread=spread)
    assert {**descent.indices, **found}.keys() == descent.permutation.indices.keys()
    fr.Permutation(descent.symmetry, {**descent.indices, **found})


def test_vectors_can_be_made_not_to_count() -> None:
    """A norm's weights that point to another permutation than the matrices do."""
    net = nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 3))
    symmetry = fr.analyze(net, args=(torch.zeros(1, 6),))
    a = dict(randomise(net, 1).state_dict())
    planted = fr.Permutation.random(symmetry, torch.Generator().manual_seed(1))
    b = planted.apply(a)
    for name in ("1.weight", "0.bias", "1.bias"):
        a[name], b[name] = (1000.0 * torch.arange(5.0) for _ in range(2))
    found = {w: match(symmetry, a, b, vector_weight=w).permutation for w in (0.0, 1.0)}
    assert found[0.0].compose(planted).is_identity
    assert found[1.0].is_identity
    assert not planted.is_identity


@pytest.mark.parametrize("bad", [-1.0, float("inf"), float("nan")])
def test_a_weight_of_vectors_is_a_number(bad: float) -> None:
    symmetry, a, b = random_pair("mlp")
    with pytest.raises(InvalidArgumentError, match="vector_weight must be a number from 0"):
        match(symmetry, a, b, vector_weight=bad)


@pytest.mark.parametrize("budget", [None, Budget(rounds=2)])
@pytest.mark.parametrize("name", NAMES)
def test_the_gain_of_a_block_is_what_would_be_lost_without_it(
    name: str, budget: Budget | None
) -> None:
    symmetry, a, b = random_pair(name)
    found = match(symmetry, a, b, budget=budget)
    objective = weights(symmetry, b, a)
    identity = fr.Permutation.identity(symmetry).indices
    roots = [block.name for block in symmetry if block.parent is None]
    assert list(found.gains) == roots
    for root in roots:
        family = {root}
        while grown := {c for n in family for c in symmetry.children(n)} - family:
            family |= grown
        back = {**found.permutation.indices, **{n: identity[n] for n in family}}
        loss = found.objective_after - value(objective, back)
        assert found.gains[root] == pytest.approx(loss, rel=1e-4, abs=1e-4)


def test_time_is_looked_at_between_steps_and_sweeps() -> None:
    descent = descent_of("mlp")
    asked: list[bool] = []

    def is_over() -> bool:
        asked.append(True)
        return len(asked) == 2

    found = maximise_relaxed(descent.objective, descent.indices, descent.trees, spread=1.0)
    stopped = maximise_relaxed(
        descent.objective, descent.indices, descent.trees, spread=1.0, is_over=is_over
    )
    assert len(asked) == 2
    assert value(descent.objective, stopped) <= value(descent.objective, found) + 1e-9
    schedule = Schedule(fr.schedules.random_order, np.random.default_rng(0), max_sweeps=9)
    history: list[float] = []
    assert not climb(descent, schedule, history, lambda: None, lambda: True)
    assert history == []
