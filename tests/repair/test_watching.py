"""Models are run over data without a trace, on graphs for every form of inputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from fxrebasin.errors import InvalidInputError, TraceError
from fxrebasin.repair import watching
from fxrebasin.repair.batches import Batches
from fxrebasin.repair.correcting import Measuring
from fxrebasin.repair.watching import Subject


def encoder() -> nn.TransformerEncoder:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)


def measured(model: nn.Module, data: list[Any], names: list[str] | None = None) -> Measuring:
    subject = Subject(model, Batches(data))
    known = [place.name for place in subject.find().places]
    watcher = Measuring()
    subject.watch(watcher, known if names is None else names)
    return watcher


def test_batches_of_every_form_are_run_on_a_graph_of_their_own() -> None:
    model, whole = encoder(), torch.randn(6, 5, 8)
    parts = [whole[:3], whole[3:5], whole[5:]]
    one, several = measured(model, [whole]).moments, measured(model, parts).moments
    assert len(one) == 4
    for name, moments in one.items():
        torch.testing.assert_close(several[name].mean, moments.mean, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(several[name].std, moments.std, rtol=1e-4, atol=1e-6)
        assert several[name].count == moments.count == 30


def test_only_so_many_graphs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "KEPT", 2)
    subject = Subject(encoder(), Batches([torch.randn(n, 5, 8) for n in (1, 2, 3, 4)]))
    subject.watch(Measuring(), ["layers.0.linear1"])
    assert len(subject._graphs) == 2


def test_a_graph_that_holds_for_all_inputs_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "GRAPHS", ("symbolic_trace",))
    subject = Subject(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), Batches([]))
    for n in (2, 3):
        subject._graph((torch.randn(n, 3),), {})
    assert [*subject._graphs] == [None]


class Watched(nn.Module):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x


class Leaves(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not isinstance(m, nn.Sequential)


def test_a_pass_stops_after_the_last_place_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = nn.Sequential(nn.Linear(3, 4), Watched(), nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 2))
    graph = fx.GraphModule(model, Leaves().trace(model))
    monkeypatch.setattr(watching, "trace_values", lambda *_: (graph, True))
    subject = Subject(model, Batches([torch.randn(5, 3)]))
    watcher = Measuring()
    for names, calls in ((["0"], 0), (["0", "2"], 1)):
        subject.watch(watcher, names)
        assert graph.get_submodule("1").calls == calls
        assert [*watcher.moments] == names


class Counting(nn.Module):
    sum: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.Linear(3, 4), nn.Linear(4, 2)
        self.register_buffer("sum", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.sum += x.sum().detach()
        result: Tensor = self.last(self.layer(x).relu())
        return result


def test_what_forward_writes_to_buffers_is_undone() -> None:
    model = Counting()
    subject = Subject(model, Batches([torch.ones(5, 3)]))
    try:
        subject.find()
        subject.watch(Measuring(), ["layer"])
    except TraceError:  # what forward keeps is not in a graph
        pass
    assert float(model.get_buffer("sum")) == 0.0


def test_a_graph_that_computes_something_else_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    other = fx.symbolic_trace(nn.Sequential(*model, nn.Tanh()))
    monkeypatch.setattr(watching, "trace_values", lambda *_: (other, False))
    with pytest.raises(TraceError, match="its graph computes something else"):
        Subject(model, Batches([torch.randn(5, 3)])).find()


def test_a_model_that_does_not_run_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        Subject(nn.Linear(3, 4), Batches([torch.randn(5, 2)])).find()


def test_a_given_graph_shows_what_is_inside_of_its_modules() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.last = nn.MultiheadAttention(8, 2), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.last(self.attention(x, x, x)[0].relu())
            return result

    graph = fx.symbolic_trace(Model())
    found = Subject(graph, Batches([torch.randn(4, 3, 8)])).find()
    names = [place.name for place in found.places]
    assert names == ["attention.in_proj_weight", "attention.out_proj"]
