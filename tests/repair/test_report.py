"""What a report says."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from fxrebasin.repair.report import SHOWN, Repaired, RepairReport, attach


def place(name: str, **options: object) -> Repaired:
    figures = {"std_before": 0.5, "std_after": 1.0, "mean_before": 0.1, "mean_after": 0.0}
    return Repaired(name, "linear", 8, 1, **{**figures, **options})  # type: ignore[arg-type]


REPORT = RepairReport(
    "repair",
    True,
    3,
    (place("a"), place("b.c", note="no bias to shift")),
    {"d": "BatchNorm follows", **{f"x{k}": "its weight has other uses as well" for k in range(5)}},
    ("one thing more",),
)


def test_it_prints_itself_as_a_table() -> None:
    assert str(REPORT).splitlines() == [
        "repair, layer by layer: 2 places on 3 batches",
        "place  kind    channels  quiet  std  ->  mean off  ->",
        "a      linear         8      1  0.5   1       0.1   0",
        "b.c    linear         8      1  0.5   1       0.1   0  no bias to shift",
        "left alone: d: BatchNorm follows",
        "left alone: x0, x1, x2 and 2 more: its weight has other uses as well",
        "note: one thing more",
    ]
    assert repr(REPORT) == "RepairReport(repair, 2 places, 14 channels)"


def test_a_long_table_is_cut() -> None:
    long = RepairReport("repair", False, 1, tuple(place(str(k)) for k in range(SHOWN + 2)))
    assert str(long).splitlines()[-1] == "and 2 more"
    assert len(long) == len([*long]) == SHOWN + 2


def test_places_are_found_by_name_and_what_is_left_says_why() -> None:
    assert REPORT["a"].std_before == 0.5
    with pytest.raises(KeyError, match="'d': BatchNorm follows"):
        REPORT["d"]
    with pytest.raises(KeyError, match="'z': there is no such place"):
        REPORT["z"]


def test_a_module_keeps_its_report() -> None:
    model = attach(REPORT, nn.Linear(2, 2))
    assert [*model.state_dict()] == ["weight", "bias"]
    assert copy.deepcopy(model).repair_report == REPORT
    assert pickle.loads(pickle.dumps(model)).repair_report == REPORT
    assert torch.equal(model(torch.zeros(1, 2))[0], model.bias)
