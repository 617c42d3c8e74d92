"""What is told of a matching while it runs, and that it can be stopped at any time."""

from __future__ import annotations

import io
from itertools import pairwise
from typing import Any

import pytest
import torch
from random_pairs import State, random_pair
from torch import nn

import fxrebasin as fr
from fxrebasin import Alignment, Budget, Step, Symmetry
from fxrebasin.errors import ConvergenceWarning
from fxrebasin.matching.descent import Descent
from fxrebasin.matching.progress import Callback, Progress
from fxrebasin.matching.solvers import coordinate_descent
from fxrebasin.matching.transforms.acting import value_at
from fxrebasin.merging.margins import block_gains
from fxrebasin.objectives import weights

torch.set_num_threads(1)

NAMES = ["mlp", "residual_mlp", "encoder_layer", "grouped_convolution", "lstm"]


def chain() -> tuple[Symmetry, State, State]:
    """Layers that have many optima."""
    torch.manual_seed(0)
    nets = [nn.Sequential(*(nn.Linear(12, 12) for _ in range(5))) for _ in "ab"]
    symmetry = fr.analyze(nets[0], args=(torch.zeros(1, 12),))
    a, b = (dict(net.state_dict()) for net in nets)
    return symmetry, a, b


def match(name: str, **options: Any) -> Alignment:
    symmetry, a, b = random_pair(name)
    return coordinate_descent(weights(symmetry, b, a), progress=False, **options)


def told(name: str, **options: Any) -> tuple[list[Step], Alignment]:
    steps: list[Step] = []
    return steps, match(name, callback=steps.append, **options)


class StopAfter:
    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self, step: Step) -> None:
        self.last = step
        self.left -= 1
        if not self.left:
            raise StopIteration


@pytest.mark.parametrize("name", NAMES)
def test_to_be_told_changes_nothing(name: str) -> None:
    steps, found = told(name)
    assert found.permutation == match(name).permutation
    assert steps[-1].objective == pytest.approx(found.objective_after)
    assert steps[-1].seconds <= found.seconds
    for before, after in pairwise(steps):
        assert before.seconds <= after.seconds
    for step in steps:
        assert step.gained == pytest.approx(step.objective - found.objective_before)
        assert step.gained >= 0


@pytest.mark.parametrize("name", NAMES)
def test_a_matching_stopped_at_any_step_returns_what_it_said(name: str) -> None:
    budget = Budget(rounds=3)
    in_first_descent = len(told(name)[0])
    steps, _ = told(name, budget=budget)
    assert len(steps) >= in_first_descent + 3
    symmetry, a, b = random_pair(name)
    objective = weights(symmetry, b, a)
    for k, step in enumerate(steps, start=1):
        found = match(name, budget=budget, callback=StopAfter(k))
        assert found.objective_after == pytest.approx(step.objective, rel=1e-6)
        assert found.objective_after == pytest.approx(value_at(objective, found.permutation))
        gains = block_gains(objective, found.permutation)
        assert found.gains == pytest.approx(gains, rel=1e-4, abs=1e-4)
        assert all(value <= found.objective_after for value in found.history)
        assert found.converged == (k > in_first_descent)
        assert found.converged or not found.rounds


def test_a_search_that_is_stopped_does_not_hide_that_the_descent_had_not_converged() -> None:
    symmetry, a, b = chain()
    steps: list[Step] = []

    def matched(callback: Callback) -> Alignment:
        options: dict[str, Any] = {"max_sweeps": 1, "budget": Budget(rounds=1)}
        with pytest.warns(ConvergenceWarning, match="stopped after 1 sweeps"):
            return coordinate_descent(
                weights(symmetry, b, a), progress=False, callback=callback, **options
            )

    matched(steps.append)
    assert len(matched(StopAfter(len(steps))).rounds) == 1


def test_what_is_known_is_not_left_for_the_sake_of_a_step() -> None:
    """Blocks that are placed anew can lose what their neighbours had gained."""
    symmetry, a, b = chain()
    known = coordinate_descent(weights(symmetry, b, a), budget=Budget(rounds=8), progress=False)
    b = known.permutation.apply(b)
    descent = Descent(weights(symmetry, b, a), fr.Permutation.identity(symmetry).indices)
    before, totals = descent.total, []

    def note() -> None:
        descent.evaluate()
        totals.append(descent.total)

    descent.rebuild(range(len(descent.trees)), note)
    assert min(totals) < before
    for k in range(1, len(totals) + 1):
        stop = StopAfter(k)
        found = fr.weight_matching(symmetry, b, to=a, progress=False, callback=stop)
        assert found.objective_after >= before
        assert stop.last.gained >= 0


def test_other_errors_of_a_callback_are_not_hidden() -> None:
    def failing(step: Step) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        match("mlp", callback=failing)


def test_every_entry_point_hands_a_callback_on() -> None:
    a, b = (nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)) for _ in "ab")
    args = (torch.randn(4, 3),)
    symmetry = fr.analyze(b, args=args)
    seen: list[Step] = []
    fr.match(symmetry, b.state_dict(), to=a.state_dict(), callback=seen.append, progress=False)
    matched = len(seen)
    assert matched
    fr.rebasin(b, to=a, args=args, callback=seen.append, progress=False)
    assert len(seen) == 2 * matched
    fr.activation_matching(b, to=a, args=args, callback=seen.append, progress=False)
    assert len(seen) > 2 * matched


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_counts_steps_and_shows_the_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with Progress("matching", None, begin=0.0, before=0.0) as bar:
        bar.step(3.0)
        bar.step(12345.678)
    shown = terminal.getvalue().splitlines()[-1]
    assert "matching: 2step" in shown
    assert "objective=12345.7" in shown
    assert not bar.is_watched
    terminal.truncate(0)
    match("mlp")
    assert not terminal.getvalue()
