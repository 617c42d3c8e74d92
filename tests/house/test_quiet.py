"""The library says what it does through `logging`, and nothing unless it is asked."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import fxrebasin as fr


def align(folder: Path) -> None:
    models = [nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)) for _ in range(2)]
    torch.save({"state_dict": models[0].state_dict()}, folder / "a.pt")
    fr.load(folder / "a.pt", like=models[0])
    fr.merge(models, (torch.zeros(2, 3),), progress=False)


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    align(tmp_path)
    assert capfd.readouterr() == ("", "")


def test_whoever_asks_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="fxrebasin"):
        align(tmp_path)
    text = caplog.text
    assert "a.pt: the state dict is in ['state_dict']" in text
    assert "propagate: 0." in text
    assert "objective" in text
    assert {record.name.partition(".")[0] for record in caplog.records} == {"fxrebasin"}


def test_the_library_needs_no_extra() -> None:
    """Neither the program's packages nor drawing are imported, or needed, to align models."""
    code = """
import sys
for name in ("typer", "rich", "matplotlib", "transformers", "timm", "sklearn"):
    sys.modules[name] = None
import torch, fxrebasin as fr
nets = [torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Linear(5, 2)) for _ in "ab"]
fr.rebasin(nets[0], to=nets[1], args=(torch.zeros(1, 3),), progress=False)
for name in fr.__all__:
    getattr(fr, name)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there_once() -> None:
    assert len(fr.__all__) == len(set(fr.__all__))
    for name in fr.__all__:
        assert getattr(fr, name) is not None, name


def test_notebooks_show_results_as_tables(tmp_path: Path) -> None:
    models = [nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)) for _ in range(2)]
    x = torch.randn(4, 3)
    symmetry = fr.analyze(models[0], (x,))
    found = fr.weight_matching(
        symmetry, models[0].state_dict(), to=models[1].state_dict(), progress=False
    )
    merged = fr.merge(models, (x,), progress=False)
    a, b = models
    path = fr.interpolate(a, b, lambda m: m(x).square().mean(), steps=3, progress=False)
    for shown in (symmetry, found.permutation, found, path, merged.report):
        text = shown._repr_html_()
        assert "<table" in text and text.count("<tr>") >= 2
    assert "<td>0.weight[0]</td><td>5</td>" in found.permutation._repr_html_()
