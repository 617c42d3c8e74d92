"""Passes of this library beside torch's own, in its ``PassManager``, on graphs of any origin."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_convolutional import Net, X
from torch import fx, nn
from torch.fx.experimental.optimization import fuse
from torch.fx.passes.infra.pass_base import PassResult
from torch.fx.passes.infra.pass_manager import PassManager
from torch.fx.passes.shape_prop import ShapeProp
from torch.fx.passes.split_module import split_module
from torch.utils._pytree import tree_leaves

import fxrebasin as fr
from fxrebasin.passes import Falsify, Propagate, Refine, Rewrite, Solve, Trace, Verify

torch.set_num_threads(1)


def shapes(graph_module: fx.GraphModule) -> PassResult:
    ShapeProp(graph_module).propagate(X)
    return PassResult(graph_module, False)


def fusion(graph_module: fx.GraphModule) -> PassResult:
    return PassResult(fuse(graph_module), True)


def halves(graph_module: fx.GraphModule) -> PassResult:
    """Two submodules, the second from the first reduction on."""
    places = {node: k for k, node in enumerate(graph_module.graph.nodes)}
    middle = len(places) // 2
    return PassResult(
        split_module(graph_module, None, lambda node: int(places[node] >= middle)),  # type: ignore[arg-type]
        True,
    )


def no_change(graph_module: fx.GraphModule) -> PassResult:
    graph_module.graph.eliminate_dead_code()
    graph_module.recompile()
    return PassResult(graph_module, False)


def align(to: nn.Module, **options: Any) -> list[Any]:
    """All passes of this library."""
    trace = Trace(options.pop("inputs", (X,)), **options)
    find = [trace, Propagate(), Refine(), Falsify()]
    return [*find, Solve(to=to, progress=False), Rewrite(), Verify()]


def graph_of_symbolic_trace(model: nn.Module) -> fx.GraphModule:
    return fx.symbolic_trace(model)


def graph_of_export(model: nn.Module) -> fx.GraphModule:
    module = torch.export.export(model, (X,)).module()
    assert isinstance(module, fx.GraphModule)
    return module


@pytest.mark.parametrize("origin", [graph_of_symbolic_trace, graph_of_export])
@pytest.mark.parametrize("after", [shapes, halves, no_change])
def test_passes_of_torch_before_and_after(origin: Any, after: Any) -> None:
    a, b = Net(0).eval(), Net(1).eval()
    passes = [no_change, *align(a), after]
    module = PassManager(passes)(origin(b)).graph_module
    found = tree_leaves(module(X))[0]  # torch's split forgets how outputs are nested
    torch.testing.assert_close(found, b(X), rtol=1e-4, atol=1e-5)
    moved = {n: t for n, t in b.state_dict().items() if n == "stem.weight"}
    assert all(not any(torch.equal(t, u) for u in module.parameters()) for t in moved.values())


def test_a_fusion_before_and_after() -> None:
    """Both models are fused first, or the aligned one is; the fused BatchNorm is gone."""
    a, b = Net(0).eval(), Net(1).eval()
    before = PassManager([fusion, *align(fuse(a))])(fx.symbolic_trace(b)).graph_module
    after = PassManager([*align(a), fusion])(fx.symbolic_trace(b)).graph_module
    for module in (before, after):
        torch.testing.assert_close(module(X), b(X), rtol=1e-4, atol=1e-5)
        assert not any(isinstance(m, nn.BatchNorm2d) for m in module.modules())


def test_shapes_are_kept_on_the_nodes_that_this_library_emits() -> None:
    a, b = Net(0).eval(), Net(1).eval()
    module = PassManager([*align(a), shapes])(fx.symbolic_trace(b)).graph_module
    (output,) = module.graph.find_nodes(op="output")
    assert output.meta["tensor_meta"].shape == (2, 2)


def test_graphs_that_dynamo_captures() -> None:
    a, b = Net(0).eval(), Net(1).eval()
    report: list[Any] = []

    def note(graph_module: fx.GraphModule) -> PassResult:
        report.append(graph_module)
        return PassResult(graph_module, False)

    def backend(graph_module: fx.GraphModule, inputs: list[Any]) -> Any:
        passes = [no_change, *align(a, inputs=tuple(inputs), parameters=b), note]
        module = PassManager(passes)(graph_module).graph_module
        (place,) = (k for k, x in enumerate(inputs) if x is X)
        return lambda *given: module(given[place])

    torch._dynamo.reset()
    compiled: Any = torch.compile(b, backend=fr.backend(passes=[no_change], inner="eager"))
    torch.testing.assert_close(compiled(X), b(X))
    torch._dynamo.reset()
    compiled = torch.compile(b, backend=backend)
    torch.testing.assert_close(compiled(X), b(X), rtol=1e-4, atol=1e-5)
    assert isinstance(report[0], fr.RebasedModule)
