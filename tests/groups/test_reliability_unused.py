"""Parameters that are not used, used in part, or used only under a flag."""

from __future__ import annotations

import pytest
import torch
from networks import f, real
from reliability import Case, Cases, X, check
from torch import Tensor, nn

import fxrebasin as fr

torch.set_num_threads(1)

CASES = Cases()


class Unused(nn.Module):
    """Parameters and a buffer that forward never looks at, and a layer behind a flag."""

    def __init__(self, flag: bool = False) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(3, 6), nn.Linear(6, 5), nn.Linear(5, 2)
        self.extra, self.norm = nn.Linear(6, 6), nn.BatchNorm1d(6)
        self.alone, self.flag = nn.Parameter(torch.randn(4)), flag
        self.register_buffer("table", torch.randn(3))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).tanh()
        if self.flag:
            h = self.extra(h).tanh() + h
        return self.head(self.second(h).tanh())


# unused parameters

CASES.model(f(6) + f(5))(Unused)


@CASES.model(f(6) + f(5) + f(6))
class CalledInVain(Unused):
    """Nothing becomes of what the layer returns: its rows can be in any order."""

    def forward(self, x: Tensor) -> Tensor:
        self.extra(self.first(x).tanh())
        return super().forward(x)


@CASES.model(f(6) + f(5) + f(4))
class SummedAlone(Unused):
    """All that is read of a parameter is its sum."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.alone.sum()


@CASES.model(f(6), real(4, 3)(4))
class UsedInPart(nn.Module):
    """Of eight positions four are looked up; the others are as they were, in permuted columns."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(8, 6))
        self.first, self.head = nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.first(x) + self.position[: x.shape[1]]).tanh())


@CASES.model(f(6) + f(5))
class ColumnsUsedInPart(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 6), nn.Linear(5, 2)
        self.weight = nn.Parameter(torch.randn(6, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.first(x).tanh() @ self.weight[:, :5]).tanh())


@CASES.model(f(6))
class Absent(nn.Module):
    """Parameters and buffers that are registered as None."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(3, 6), nn.Linear(6, 2)
        self.register_parameter("shift", None)
        self.register_buffer("mask", None)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).tanh()
        return self.head(h if self.shift is None else h + self.shift)


# parameters used only under a flag


@CASES.model(f(6) + f(5))
def switched_on() -> nn.Module:
    return Unused(flag=True)


@CASES.model(f(6) + f(5) + f(4))
class UsedInTrainingOnly(Unused):
    """What only training uses moves as training allows: of ``alone`` that is its sum."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = x + self.alone.sum()
        return super().forward(x)


@CASES.model(f(6) + f(5))
class KeywordLeftOut(Unused):
    def forward(self, x: Tensor, shift: Tensor | None = None, deep: bool = False) -> Tensor:
        h = self.first(x).tanh()
        if deep:
            h = self.extra(h)
        if shift is not None:
            h = h + shift
        return self.head(self.second(h).tanh())


@CASES.model(f(6))
class Route(nn.Module):
    """One of two branches is chosen by name."""

    def __init__(self) -> None:
        super().__init__()
        self.routes = nn.ModuleDict({"a": nn.Linear(3, 6), "b": nn.Linear(3, 7)})
        self.head, self.chosen = nn.Linear(6, 2), "a"

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.routes[self.chosen](x).tanh())


@pytest.mark.parametrize("case", CASES.each())
def test_parameters_that_are_not_all_used(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("flag", [False, True])
def test_what_is_not_used_never_moves(flag: bool) -> None:
    torch.manual_seed(0)
    model = Unused(flag)
    moved = fr.Permutation.random(
        fr.analyze(model, args=(X,)), torch.Generator().manual_seed(1)
    ).apply_to(model)
    kept = ["alone", "table", "norm.weight", "norm.running_mean", "norm.num_batches_tracked"]
    kept += [] if flag else ["extra.weight", "extra.bias"]
    before, after = model.state_dict(), moved.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in kept)
    assert not torch.equal(after["first.weight"], before["first.weight"])
    assert torch.equal(after["extra.weight"], before["extra.weight"]) != flag


def test_the_flag_decides_what_a_parameter_is_tied_to() -> None:
    off, on = (fr.analyze(Unused(flag), args=(X,)) for flag in (False, True))
    axes = [{axis for block in s for axis in block.axes} for s in (off, on)]
    assert ("extra.weight", 0) not in axes[0]
    assert {("extra.weight", 0), ("extra.weight", 1)} <= axes[1]
    (stream,) = (block for block in on if ("first.weight", 0) in block.axes)
    assert {("extra.weight", 0), ("extra.weight", 1)} <= set(stream.axes)


def test_a_branch_that_is_chosen_by_a_keyword_is_followed() -> None:
    model = KeywordLeftOut()
    shift = torch.zeros(4, 6)
    symmetry = fr.analyze(model, args=(X,), kwargs={"shift": shift, "deep": True})
    assert symmetry.log_order == pytest.approx(f(6) + f(5))
    (hidden,) = (block for block in symmetry if ("first.weight", 0) in block.axes)
    assert set(hidden.axes) == {("first.weight", 0), ("first.bias", 0), ("extra.weight", 1)}
