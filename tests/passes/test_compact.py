"""Compact and Order as passes: alone, together, too early, and with broken promises."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import fx, nn
from torch.fx.passes.infra.pass_manager import PassManager

import fxrebasin as fr
from fxrebasin.errors import PassOrderError
from fxrebasin.passes import Compact, Falsify, Order, Propagate, Refine, Rewrite, Trace, Verify
from fxrebasin.passes.base import Pass
from fxrebasin.passes.state import state_of

torch.set_num_threads(1)

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def net() -> nn.Sequential:
    """Of 6 hidden units 2 are read by nobody."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))
    model.get_parameter("2.weight").data[:, [0, 3]] = 0.0
    return model


def run(*steps: Pass) -> fx.GraphModule:
    module: nn.Module = net()
    for step in steps:
        module = step(module).graph_module
    assert isinstance(module, fx.GraphModule)
    return module


@pytest.mark.parametrize("check", [(), (Falsify(),)])
def test_compact_in_the_place_of_rewrite(check: tuple[Pass, ...]) -> None:
    manager = PassManager([Trace((X,)), Propagate(), Refine(), *check, Compact()])
    result = manager(net())
    assert result.modified
    smaller = fr.compact(net(), (X,))
    found = result.graph_module.state_dict()
    assert all(torch.equal(found[k], t) for k, t in smaller.state_dict().items())
    compaction = state_of(result.graph_module).compaction
    assert compaction is not None
    assert compaction.removed == smaller.report.removed == {"0.weight[0]": 2}
    assert set(smaller.report.seconds) == {"trace", "propagate", "refine", "falsify", "compact"}


def test_compact_changes_nothing_of_what_it_was_given() -> None:
    module = run(Trace((X,)), Propagate(), Refine())
    before = state_of(module)
    result = Compact()(module)
    assert result.graph_module is not module
    assert state_of(module) is before
    assert not before.emitted


def test_order_is_a_solver_of_its_own() -> None:
    module = run(Trace((X,)), Propagate(), Refine(), Order(), Rewrite(), Verify())
    ordered = fr.order(net(), (X,))
    assert all(torch.equal(module.state_dict()[k], t) for k, t in ordered.state_dict().items())
    assert isinstance(ordered, fr.Aligned)
    assert set(ordered.report.seconds) >= {"order", "rewrite", "verify"}


@pytest.mark.parametrize("early", [Compact((X,)), Order()])
@pytest.mark.parametrize(
    ("before", "missing"),
    [([], "run Trace first"), ([Trace((X,)), Propagate()], "needs the result of Refine")],
)
def test_a_pass_that_comes_too_early_says_what_it_needs(
    early: Pass, before: list[Pass], missing: str
) -> None:
    module = run(*before) if before else net()
    with pytest.raises(PassOrderError, match=missing):
        early(module)


def the_graph_is_not_well_formed(module: fx.GraphModule) -> None:
    node = next(iter(module.graph.find_nodes(op="output")))
    node.prepend(module.graph.create_node("call_module", "nowhere", (node,)))


def a_parameter_grew(module: fx.GraphModule) -> None:
    module.get_submodule("2").weight = nn.Parameter(torch.zeros(2, 7))


def a_parameter_has_another_dtype(module: fx.GraphModule) -> None:
    module.get_submodule("2").double()


def a_parameter_is_new(module: fx.GraphModule) -> None:
    module.get_submodule("2").register_parameter("scale", nn.Parameter(torch.zeros(2)))


def the_outputs_differ(module: fx.GraphModule) -> None:
    state = state_of(module)
    assert state.compaction is not None
    worse = replace(state.compaction.verification, error=0.1)
    state.compaction = replace(state.compaction, verification=worse)


@pytest.mark.parametrize(
    "breach",
    [
        the_graph_is_not_well_formed,
        a_parameter_grew,
        a_parameter_has_another_dtype,
        a_parameter_is_new,
        the_outputs_differ,
    ],
)
def test_what_compact_ensures_is_checked(breach: object) -> None:
    module = run(Trace((X,)), Propagate(), Refine(), Compact())
    Compact().ensures(module)
    assert callable(breach)
    breach(module)
    with pytest.raises((AssertionError, RuntimeError)):
        Compact().ensures(module)


def test_what_order_ensures_is_checked() -> None:
    module = run(Trace((X,)), Propagate(), Refine(), Order())
    Order().ensures(module)
    state = state_of(module)
    assert state.alignment is not None
    state.alignment = replace(state.alignment, objective_after=-1.0)
    with pytest.raises(AssertionError):
        Order().ensures(module)


def test_verify_does_not_follow_compact() -> None:
    """Which has verified what it emits, and may have rounded a constant into a bias."""
    with pytest.raises(PassOrderError, match="needs the result of Solve"):
        run(Trace((X,)), Propagate(), Refine(), Compact(), Verify())
