"""The order of the passes, and how long they take."""

from __future__ import annotations

import torch
from torch import nn
from torch.fx.passes.infra.pass_manager import PassManager

import fxrebasin as fr
from fxrebasin.passes.pipeline import passes_to_align, passes_to_analyze, run_passes
from fxrebasin.passes.solve import Solve
from fxrebasin.passes.state import state_of

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))


def test_the_passes_come_in_this_order() -> None:
    steps = [*passes_to_analyze((X,)), *passes_to_align(Solve(to=net(1)))]
    names = [type(step).__name__ for step in steps]
    assert names == ["Trace", "Propagate", "Refine", "Falsify", "Solve", "Rewrite", "Verify"]
    untested = [type(step).__name__ for step in passes_to_analyze((X,), check=False)]
    assert untested == ["Trace", "Propagate", "Refine"]


def test_the_time_of_every_pass_is_reported() -> None:
    aligned = fr.rebasin(net(1), to=net(2), args=(X,), progress=False)
    seconds = aligned.report.seconds
    assert list(seconds) == [
        "trace", "propagate", "refine", "falsify", "solve", "rewrite", "verify"
    ]  # fmt: skip
    assert all(s > 0 for s in seconds.values())


def test_parts_of_the_pipeline_can_be_run_one_after_another() -> None:
    a, b = net(1), net(2)
    module = run_passes(passes_to_analyze((X,)), b)
    assert state_of(module).symmetry == fr.analyze(b, (X,))
    emitted = run_passes(passes_to_align(Solve(to=a, progress=False)), module)
    assert len(state_of(emitted).seconds) == 7
    expected = fr.rebasin(b, to=a, args=(X,), progress=False).state_dict()
    assert all(torch.equal(emitted.state_dict()[k], t) for k, t in expected.items())


def test_the_pipeline_runs_in_torchs_pass_manager() -> None:
    a, b = net(1), net(2)
    solve = Solve(to=a, progress=False)
    emitted = PassManager([*passes_to_analyze((X,)), *passes_to_align(solve)])(b).graph_module
    expected = fr.rebasin(b, to=a, args=(X,), progress=False).state_dict()
    assert all(torch.equal(emitted.state_dict()[k], t) for k, t in expected.items())
