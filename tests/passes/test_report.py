"""Whatever rebasin returns says how it came about."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import fxrebasin as fr
from fxrebasin.models.rebased import META
from fxrebasin.passes.report import Report

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.enter(x).relu())


class ByValue(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum().item() > -1e9 else -x)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("kind", [Net, ByValue])
def test_what_is_returned_is_what_the_annotation_says(kind: type[Net], inplace: bool) -> None:
    b = kind()
    assert not isinstance(b, fr.Aligned)
    aligned = fr.rebasin(b, to=kind(), args=(X,), inplace=inplace, progress=False)
    assert isinstance(aligned, fr.Aligned)
    assert isinstance(aligned, nn.Module)
    assert isinstance(aligned.report, Report)
    assert isinstance(aligned, fr.RebasedModule) == (kind is Net)
    assert isinstance(b, fr.Aligned) == (kind is ByValue and inplace)


def test_nothing_of_the_passes_is_left_in_a_module_of_the_users_class() -> None:
    aligned = fr.rebasin(ByValue(), to=ByValue(), args=(X,), progress=False)
    assert META not in vars(aligned)
    assert vars(aligned)["report"] is aligned.report


def test_other_things_with_a_report_are_not_aligned() -> None:
    class Reporting(nn.Module):
        report = "nothing to say"

    assert not isinstance(Reporting(), fr.Aligned)
    assert not isinstance("text", fr.Aligned)


def test_a_report_prints_the_group_the_objective_the_error_and_the_times() -> None:
    text = str(fr.rebasin(Net(), to=Net(), args=(X,), progress=False).report)
    for part in ("Symmetry(1 blocks", "objective", "verified: relative output error", "solve 0."):
        assert part in text
