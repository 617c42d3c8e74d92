"""What is looked up by numbers that name units: experts, code books, choices among groups."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.measuring.random_weights import difference, evaluate, randomise

torch.set_num_threads(1)

D, HIDDEN, EXPERTS = 5, 4, 6
X = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))


def f(*sizes: int) -> float:
    return math.fsum(math.lgamma(n + 1) for n in sizes)


def check(model: nn.Module, log_order: float) -> fr.Symmetry:
    """The group has this order, and whatever it does leaves the function as it is."""
    symmetry = fr.analyze(model, args=(X,), check=False)
    assert symmetry.log_order == pytest.approx(log_order, abs=1e-9)
    assert not symmetry.unknown_ops
    model = randomise(copy.deepcopy(model))
    expected = evaluate(model, (X,))
    for seed in range(3):
        moved = fr.Permutation.random(symmetry, torch.Generator().manual_seed(seed)).apply_to(model)
        assert difference(evaluate(moved, (X,)), expected) < 1e-12
    return symmetry


class Routed(nn.Module):
    """A space that experts read, and one that they write; two of six experts per row."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.head = nn.Linear(3, D), nn.Linear(D, 2)
        self.router = nn.Linear(D, EXPERTS)
        self.up = nn.Parameter(torch.randn(EXPERTS, HIDDEN, D))
        self.down = nn.Parameter(torch.randn(EXPERTS, D, HIDDEN))

    def shares(self, scores: Tensor) -> Tensor:
        values, chosen = scores.softmax(-1).topk(2)
        return torch.zeros_like(scores).scatter(1, chosen, values / values.sum(-1, keepdim=True))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        inside = torch.einsum("nd,ehd->enh", x, self.up).relu()
        made = torch.einsum("enh,edh->end", inside, self.down)
        found: Tensor = self.head((made * self.shares(self.router(x)).t()[..., None]).sum(0))
        return found


def test_experts_move_with_the_router_and_units_inside_them() -> None:
    symmetry = check(Routed(), 2 * f(D) + f(EXPERTS) + EXPERTS * f(HIDDEN))
    (experts,) = (b for b in symmetry if b.size == EXPERTS)
    assert {("router.weight", 0), ("router.bias", 0), ("up", 0), ("down", 0)} <= set(experts.axes)


class ByGather(Routed):
    """Chooses by one score and weights by another, which is looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(EXPERTS))

    def shares(self, scores: Tensor) -> Tensor:
        chosen = (scores + self.bias).topk(2)[1]
        return torch.zeros_like(scores).scatter_(1, chosen, scores.sigmoid().gather(1, chosen))


def test_a_score_that_is_looked_up_moves_along() -> None:
    symmetry = check(ByGather(), 2 * f(D) + f(EXPERTS) + EXPERTS * f(HIDDEN))
    assert ("bias", 0) in {axis for b in symmetry if b.size == EXPERTS for axis in b.axes}


class InGroups(Routed):
    """The best two of three groups first; two experts in each."""

    def shares(self, scores: Tensor) -> Tensor:
        groups = scores.unflatten(1, (3, 2))
        best = groups.amax(-1).topk(2)[1]
        open_to = torch.zeros_like(groups[..., 0]).scatter(1, best, 1.0)
        kept = open_to[..., None].expand_as(groups).flatten(1)
        values, chosen = (scores.sigmoid() * kept).topk(2)
        return torch.zeros_like(scores).scatter(1, chosen, values)


def test_groups_of_experts_move_as_wholes() -> None:
    """((S_4 wr S_2) wr S_3): units in experts in groups."""
    check(InGroups(), 2 * f(D) + f(3) + 3 * f(2) + EXPERTS * f(HIDDEN))


class Numbered(Routed):
    """The number of an expert is used as a number."""

    def shares(self, scores: Tensor) -> Tensor:
        return super().shares(scores) * scores.argmax(-1, keepdim=True)


def test_numbers_that_are_read_hold_the_units_they_name() -> None:
    check(Numbered(), 2 * f(D) + EXPERTS * f(HIDDEN))


class Codes(nn.Module):
    """The nearest entry of a code book, instead of what was computed."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.head = nn.Linear(3, D), nn.Linear(D, 2)
        self.book = nn.Embedding(EXPERTS, D)

    def forward(self, x: Tensor) -> Tensor:
        nearest = torch.cdist(self.enter(x), self.book.weight).argmin(-1)
        found: Tensor = self.head(self.book(nearest))
        return found


def test_the_entries_of_a_code_book_have_no_order() -> None:
    check(Codes(), f(D) + f(EXPERTS))


class CodesByIndex(Codes):
    def forward(self, x: Tensor) -> Tensor:
        distances = (self.enter(x)[:, None] - self.book.weight).square().sum(-1)
        found: Tensor = self.head(self.book.weight[distances.argmin(1)])
        return found


def test_a_code_book_may_be_indexed() -> None:
    check(CodesByIndex(), f(D) + f(EXPERTS))
