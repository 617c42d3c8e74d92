"""Graphs whose weights are inputs: what they are bound to, and what is found of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

import fxrebasin as fr
from fxrebasin.errors import InvalidArgumentError
from fxrebasin.passes import Propagate, Refine, Rewrite, Solve, Trace, Verify
from fxrebasin.tracing.lifted import bind, lift

torch.set_num_threads(1)

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


class Tied(nn.Module):
    """BatchNorm, and one weight that two layers hold."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.norm, self.last = nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)
        self.last.weight = nn.Parameter(torch.randn(3, 6))
        self.again = nn.Linear(6, 3, bias=False)
        self.again.weight = self.last.weight

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.first(x)).relu()
        return self.last(h) + self.again(h.tanh())


def captured(model: nn.Module, x: Tensor) -> tuple[fx.GraphModule, list[Any]]:
    """What Dynamo gives a backend."""
    found: list[Any] = []

    def keep(graph_module: fx.GraphModule, inputs: list[Any]) -> Any:
        found.append((graph_module, list(inputs)))
        return graph_module.forward

    torch._dynamo.reset()
    torch.compile(model, backend=keep)(x)
    ((graph_module, inputs),) = found
    return graph_module, inputs


def functional(model: nn.Module, x: Tensor) -> tuple[fx.GraphModule, tuple[Any, ...]]:
    """A function of state and input, traced by ``make_fx``."""
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return make_fx(lambda s, x: functional_call(model, s, (x,)))(state, x), (state, x)


@pytest.mark.parametrize("make", [captured, functional])
@pytest.mark.parametrize("training", [False, True])
def test_a_model_is_found_among_the_inputs(make: Any, training: bool) -> None:
    model = Tied().train(training)
    expected = fr.analyze(model, args=(X,))
    graph_module, args = make(model, X)
    found = fr.analyze(graph_module, args, parameters=model)
    assert found.log_order == pytest.approx(expected.log_order)
    names = {name for p in found.parameters if p.groups for name in p.names}
    assert {"first.weight", "norm.running_mean", "last.weight"} <= names


def test_names_may_be_given_by_place_and_by_name() -> None:
    graph = fx.symbolic_trace(lambda w, v, x: F.linear(F.linear(x, w).relu(), v))
    w, v = torch.randn(6, 3), torch.randn(2, 6)
    for parameters in ({"w": "a", "v": "b.c"}, {0: "a", 1: "b.c"}):
        found = fr.analyze(graph, (w, v, X), parameters=parameters)
        assert found.log_order == pytest.approx(6.579, abs=1e-3)
        assert [p.name for p in found.parameters] == ["a", "b.c"]


def test_tensors_may_be_given_in_their_places() -> None:
    graph = fx.symbolic_trace(lambda w, v, x: F.linear(F.linear(x, w).relu(), v))
    parameters = {"w": nn.Parameter(torch.randn(6, 3)), "v": nn.Parameter(torch.randn(2, 6))}
    assert fr.analyze(graph, (X,), parameters=parameters).movable_units == 6


def test_exported_programs_go_the_same_way() -> None:
    model = Tied().eval()
    program = torch.export.export(model, (X,))
    graph = program.graph_module
    state, signature = {**program.state_dict}, program.graph_signature
    named = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    inputs = [state[named[n.name]] if n.name in named else X for n in _placeholders(graph)]
    found = fr.analyze(graph, inputs, parameters=named)
    assert found.log_order == pytest.approx(fr.analyze(program, (X,)).log_order)


def _placeholders(graph_module: fx.GraphModule) -> list[fx.Node]:
    return list(graph_module.graph.find_nodes(op="placeholder"))


def test_a_captured_graph_is_rewritten() -> None:
    reference, model = Tied(1), Tied(2).eval()
    graph_module, inputs = captured(model, X)
    module: nn.Module = graph_module
    bound, _ = bind(graph_module, inputs, model)
    to, _ = bind(captured(reference.eval(), X)[0], captured(reference, X)[1], reference)
    trace = Trace(inputs, parameters=model)
    for step in (trace, Propagate(), Refine(), Solve(to=to, progress=False), Rewrite(), Verify()):
        module = step(module).graph_module
    torch.testing.assert_close(module(X)[0], model(X))
    assert any(
        not torch.equal(tensor, bound.state_dict()[name])
        for name, tensor in module.state_dict().items()
    )


def test_tied_weights_stay_one() -> None:
    model = Tied().eval()
    bound, args = bind(*captured(model, X), model)
    assert len(args) == 1
    assert bound.get_parameter("last.weight") is model.last.weight
    assert sum(p is model.last.weight for p in bound.parameters()) == 1


def test_what_is_bound_is_lifted_again() -> None:
    model = Tied().eval()
    graph_module, inputs = captured(model, X)
    bound, args = bind(graph_module, inputs, model)
    lifted, tensors = lift(bound)
    assert all(any(t is x for x in inputs) for t in tensors.values())
    torch.testing.assert_close(lifted(*tensors.values(), *args), graph_module(*inputs))
    assert lift(lifted)[0] is lifted


def test_binding_changes_nothing() -> None:
    model = Tied().eval()
    graph_module, inputs = captured(model, X)
    code = graph_module.code
    bind(graph_module, inputs, model)
    assert graph_module.code == code
    torch.testing.assert_close(graph_module(*inputs)[0], model(X))


GRAPH = fx.symbolic_trace(lambda w, x: F.linear(x, w))
W = torch.randn(6, 3)


@pytest.mark.parametrize(
    ("args", "parameters", "message"),
    [
        ((W, X), {"v": "a"}, r"parameters: expected inputs of the graph \(w, x\), found 'v'"),
        ((W, X), {2: "a"}, r"parameters: expected inputs of the graph \(w, x\), found 2"),
        ((W, X), {}, "parameters: expected a model or a dict, found a dict of 0"),
        ((W, X), 3, "parameters: expected a model or a dict, found 3"),
        ((X,), {"w": "a"}, "args: expected a value for each of 2 inputs"),
        ((W, X, X), {"w": W}, "args: the graph has 2 inputs, 1 of which are weights; found 3"),
        ((W, X), {"w": 3.0}, "the input 'w': expected a tensor"),
        ((W, X), {"w": "a", "x": "a"}, "two different inputs are named 'a'"),
        ((W, X), nn.Linear(3, 6), "found a Linear, of which 0 of 2 args are"),
    ],
)
def test_what_cannot_be_bound(args: Any, parameters: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        fr.analyze(GRAPH, args, parameters=parameters)


def test_only_graphs_have_weights_among_their_inputs() -> None:
    with pytest.raises(InvalidArgumentError, match=r"expected a torch.fx.GraphModule.*leave it"):
        fr.analyze(nn.Linear(3, 6), (X,), parameters={"w": "a"})
