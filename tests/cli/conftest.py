"""A folder with a model and checkpoints of it, where the commands run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from fxrebasin.cli.commands import app

NETS = """
import torch
from torch import nn


def net():
    layers = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 4))
    return model, (torch.zeros(1, 3, 6, 6),)


def batches():
    torch.manual_seed(0)
    return [(torch.randn(16, 3, 6, 6), torch.randint(4, (16,))) for _ in range(2)]
"""


class Ran(NamedTuple):
    code: int
    out: str
    err: str


def ran(*arguments: object) -> Ran:
    """What a command has printed, and its exit code."""
    found = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return Ran(found.exit_code, found.stdout, found.stderr)


def net() -> nn.Module:
    namespace: dict[str, Any] = {}
    exec(NETS, namespace)
    model, _ = namespace["net"]()
    assert isinstance(model, nn.Module)
    return model.eval()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``nets.py``, and ``a.pt``, ``b.pt``, ``c.pt``; the second is wrapped and nested."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "nets", raising=False)
    (tmp_path / "nets.py").write_text(NETS)
    for seed, name in enumerate("abc"):
        torch.manual_seed(seed)
        state = net().state_dict()
        if name == "b":
            state = {"epoch": 2, "state_dict": {f"module.{n}": t for n, t in state.items()}}
        torch.save(state, tmp_path / f"{name}.pt")
    return tmp_path
