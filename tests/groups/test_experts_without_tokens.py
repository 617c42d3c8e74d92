"""Experts, sorts and buckets that the example leaves empty: other inputs fill them.

Where an expert runs on nothing, its axes and the stream that it would read and write are pinned;
where it does not run at all, it stays as it is, and a warning names it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from networks import f
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.measuring.random_weights import difference, evaluate, randomise
from fxrebasin.errors import UntouchedWarning

torch.set_num_threads(1)

SMALL = torch.tensor([[1.0, 0.0, 0.5], [-1.0, 0.3, 0.1], [2.0, -1.0, 0.0], [-0.5, 0.2, 0.9]])
LARGE = torch.cat([SMALL, SMALL * 3, torch.tensor([[0.1, 9.0, 0.2], [-0.1, 8.0, 0.4]])])
Route = Callable[["Mixture", Tensor, Tensor], Tensor]


class Mixture(nn.Module):
    """Three experts; the last one gets the tokens whose second feature is large."""

    def __init__(self, route: Route) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(3, 6), nn.Linear(6, 2)
        inner = (nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 6)) for _ in range(3))
        self.experts = nn.ModuleList(inner)
        self.route = route

    def forward(self, x: Tensor) -> Tensor:
        chosen = torch.where(x[:, 1] > 5, 2, (x[:, 0] > 0).long())
        return self.leave(self.route(self, self.enter(x).tanh(), chosen))


def where_it_has_tokens(self: Mixture, h: Tensor, chosen: Tensor) -> Tensor:
    y = h * 1.0
    for e, expert in enumerate(self.experts):
        t = torch.where(chosen == e)[0]
        if t.numel():
            y = y.index_add(0, t, expert(h[t]))
    return y


def where_any_is_chosen(self: Mixture, h: Tensor, chosen: Tensor) -> Tensor:
    y = h * 1.0
    for e, expert in enumerate(self.experts):
        if (chosen == e).any():
            y[chosen == e] += expert(h[chosen == e])
    return y


def the_first_two_of_a_bucket(self: Mixture, h: Tensor, chosen: Tensor) -> Tensor:
    y = h * 1.0
    for e, expert in enumerate(self.experts):
        t = torch.where(chosen == e)[0][:2]
        if len(t):
            y = y.index_add(0, t, expert(h[t]))
    return y


def sorted_runs_that_are_not_empty(self: Mixture, h: Tensor, chosen: Tensor) -> Tensor:
    order = chosen.argsort()
    runs = torch.split(h[order], torch.bincount(chosen, minlength=3).tolist())
    made = [expert(run) for expert, run in zip(self.experts, runs, strict=True) if len(run)]
    return h.index_add(0, order, torch.cat(made))


def a_branch_on_the_batch(self: Mixture, h: Tensor, chosen: Tensor) -> Tensor:
    for e, expert in enumerate(self.experts):
        if len(h) > 4 * e:
            h = h + expert(h)
    return h


def also_without_tokens(self: Mixture, h: Tensor, chosen: Tensor) -> Tensor:
    y = h * 1.0
    for e, expert in enumerate(self.experts):
        t = torch.where(chosen == e)[0]
        y = y.index_add(0, t, expert(h[t]))
    return y


def by_masks(self: Mixture, h: Tensor, chosen: Tensor) -> Tensor:
    y = h * 1.0
    for e, expert in enumerate(self.experts):
        y[chosen == e] = y[chosen == e] + expert(h[chosen == e])
    return y


def sorted_runs(self: Mixture, h: Tensor, chosen: Tensor) -> Tensor:
    order = chosen.argsort()
    runs = torch.split(h[order], torch.bincount(chosen, minlength=3).tolist())
    made = [expert(run) for expert, run in zip(self.experts, runs, strict=True)]
    return h.index_add(0, order, torch.cat(made))


def sorted_runs_in_the_place_of_the_stream(self: Mixture, h: Tensor, chosen: Tensor) -> Tensor:
    """What experts make is joined: the stream that it is joined to waits for the empty one."""
    order = chosen.argsort()
    runs = torch.split(h[order], torch.bincount(chosen, minlength=3).tolist())
    made = [expert(run) for expert, run in zip(self.experts, runs, strict=True)]
    return torch.cat(made)[order.argsort()].tanh()


def slices_of_sorted_tokens(self: Mixture, h: Tensor, chosen: Tensor) -> Tensor:
    order, ends = chosen.argsort(), torch.bincount(chosen, minlength=3).cumsum(0).tolist()
    begins, sorted_ = [0, *ends[:-1]], h[order]
    made = [x(sorted_[i:j]) for x, i, j in zip(self.experts, begins, ends, strict=True)]
    return h.index_add(0, order, torch.cat(made))


def largest_difference(model: nn.Module, symmetry: fr.Symmetry) -> float:
    drawn = randomise(copy.deepcopy(model))
    found = []
    for seed in range(3):
        moved = fr.Permutation.random(symmetry, torch.Generator().manual_seed(seed)).apply_to(drawn)
        found += [difference(evaluate(moved, (x,)), evaluate(drawn, (x,))) for x in (SMALL, LARGE)]
    return max(found)


@pytest.mark.parametrize("front_end", [None, "eager"])
@pytest.mark.parametrize(
    "route",
    [
        also_without_tokens,
        by_masks,
        sorted_runs,
        sorted_runs_in_the_place_of_the_stream,
        slices_of_sorted_tokens,
    ],
)
def test_what_an_empty_expert_meets_is_pinned(route: Route, front_end: Any) -> None:
    """The stream and all axes of the empty one; units inside the others move."""
    torch.manual_seed(0)
    model = Mixture(route)
    options: dict[str, Any] = {} if front_end is None else {"front_ends": [front_end]}
    symmetry = fr.analyze(model, (SMALL,), **options)
    assert symmetry.log_order == pytest.approx(2 * f(5))
    assert largest_difference(model, symmetry) < 1e-10


SKIPPING: dict[Route, int] = {
    where_it_has_tokens: 1,
    where_any_is_chosen: 1,
    the_first_two_of_a_bucket: 1,
    sorted_runs_that_are_not_empty: 1,
    a_branch_on_the_batch: 2,
}


@pytest.mark.filterwarnings("ignore::fxrebasin.errors.RefutedWarning")  # at another batch size
@pytest.mark.parametrize("route", SKIPPING)
def test_experts_that_do_not_run_are_named_and_found_by_more_examples(route: Route) -> None:
    torch.manual_seed(0)
    model, skipped = Mixture(route), SKIPPING[route]
    with pytest.warns(UntouchedWarning, match=f"{4 * skipped} parameters are not used"):
        found = fr.analyze(model, (SMALL,))
    assert {name.split(".")[1] for name in found.untouched} == {*"12"[2 - skipped :]}
    symmetry = fr.analyze(model, (SMALL,), examples=[(LARGE,)])
    assert not symmetry.untouched
    assert symmetry.log_order == pytest.approx(f(6) + 3 * f(5))
    assert largest_difference(model, symmetry) < 1e-10
