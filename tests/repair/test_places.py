"""What is found on graphs: layers however they are spelled, and the stored tensors behind them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from fxrebasin.repair.channels import Slot
from fxrebasin.repair.places import Found, find_places
from fxrebasin.tracing.export import export


class Spelled(nn.Module):
    """One hidden layer, computed by a function of the input, weight and bias."""

    def __init__(
        self, compute: Callable[[Tensor, Tensor, Tensor], Tensor], *shape: int, bias: int
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.compute = compute
        self.w, self.b = nn.Parameter(torch.randn(shape)), nn.Parameter(torch.randn(bias))
        self.last = nn.Linear(bias, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.compute(x, self.w, self.b).relu()
        result: Tensor = self.last(hidden.reshape(4, self.b.numel(), -1).mean(2))
        return result


SPELLINGS: dict[str, tuple[Callable[[Tensor, Tensor, Tensor], Tensor], tuple[int, ...], int]] = {
    "linear": (lambda x, w, b: F.linear(x, w, b), (5, 3), 0),
    "a view": (lambda x, w, b: F.linear(x, w.view(3, 5).t(), b), (3, 5), 1),
    "matmul": (lambda x, w, b: x @ w + b, (3, 5), 1),
    "torch.matmul": (lambda x, w, b: torch.matmul(x, w) + b, (3, 5), 1),
    "the bias first": (lambda x, w, b: b + x.matmul(w), (3, 5), 1),
    "addmm": (lambda x, w, b: torch.addmm(b, x, w), (3, 5), 1),
    "addmm transposed": (lambda x, w, b: torch.addmm(b, x, w.t()), (5, 3), 0),
    "conv1d": (lambda x, w, b: F.conv1d(x[..., None], w, b), (5, 3, 1), 0),
    "conv_transpose1d": (lambda x, w, b: F.conv_transpose1d(x[..., None], w, b), (3, 5, 2), 1),
    "a mask": (lambda x, w, b: F.linear(x, w * torch.ones(5, 3), b), (5, 3), 0),
}


@pytest.mark.parametrize("how", SPELLINGS)
@pytest.mark.parametrize("front_end", ["export", "symbolic_trace"])
def test_a_layer_is_found_however_it_is_spelled(how: str, front_end: str) -> None:
    compute, shape, axis = SPELLINGS[how]
    model = Spelled(compute, *shape, bias=5)
    x = torch.randn(4, 3)
    graph = fx.symbolic_trace(model) if front_end == "symbolic_trace" else export(model, (x,), {})
    found = find_places(graph)
    (place,) = found.places
    assert place.name == "w"
    assert place.channels == 5
    assert place.targets[0].weight == Slot("w", axis)
    assert place.targets[0].bias == Slot("b", 0)
    assert found.left == {"last": "its result is what the model returns"}
    (node,) = place.nodes
    value = _value(graph, node, x)
    assert value.shape[place.axis] == 5
    torch.testing.assert_close(value, compute(x, model.w, model.b))


def _value(graph: fx.GraphModule, wanted: fx.Node, x: Tensor) -> Tensor:
    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            value = super().run_node(n)
            if n is wanted:
                seen.append(value)
            return value

    seen: list[Tensor] = []
    Recorder(graph).run(x)
    return seen[0]


class Packed(nn.Module):
    """Three projections in one parameter, as attention stores them, one of which is left out."""

    def __init__(self, *, overlapping: bool) -> None:
        super().__init__()
        self.packed, self.bias = nn.Parameter(torch.randn(6, 3)), nn.Parameter(torch.randn(6))
        self.first = 0 if overlapping else 2
        self.last = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        rows = slice(self.first, self.first + 2)
        a = F.linear(x, self.packed[:2], self.bias[:2]).relu()
        b = F.linear(x, self.packed[rows], self.bias[rows]).relu()
        result: Tensor = self.last(a * b)
        return result


def test_parts_of_one_parameter_are_places_of_their_own() -> None:
    found = find_places(export(Packed(overlapping=False), (torch.randn(4, 3),), {}))
    assert [place.name for place in found.places] == ["packed[0:2]", "packed[2:4]"]
    assert [place.targets[0].weight.rows for place in found.places] == [(0, 1), (2, 3)]
    assert [place.targets[0].bias for place in found.places] == [
        Slot("bias", 0, (0, 1)),
        Slot("bias", 0, (2, 3)),
    ]


def test_the_same_part_used_twice_is_one_place() -> None:
    found = find_places(export(Packed(overlapping=True), (torch.randn(4, 3),), {}))
    (place,) = found.places
    assert len(place.nodes) == 2


def find(model: nn.Module, *x: Tensor) -> Found:
    return find_places(export(model.eval(), x, {}))


def test_attention_is_corrected_in_its_packed_projection() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.last = nn.Linear(8, 2)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            result: Tensor = self.last(self.attention(x, y, y)[0].relu())
            return result

    x, y = torch.randn(2, 5, 8), torch.randn(2, 6, 8)
    names = [place.name for place in find(Model(), x, y).places]
    packed = "attention.in_proj_weight"
    assert names == [f"{packed}[0:8]", f"{packed}[8:24]", "attention.out_proj"]
    found = find_places(fx.symbolic_trace(Model()))
    assert found.left["attention"].endswith("what happens inside of MultiheadAttention")


@pytest.mark.parametrize(
    ("layers", "left"),
    [
        ([nn.LSTM(3, 4)], "it is used by 'lstm'"),
        ([nn.Linear(3, 4), nn.BatchNorm1d(4)], "BatchNorm follows"),
        ([nn.Linear(3, 4), nn.Softmax(-1)], "its result is what the model returns"),
        ([nn.Linear(3, 4), nn.Flatten(), nn.Sigmoid()], "its result is what the model returns"),
    ],
)
def test_what_is_left_alone_has_a_reason(layers: list[nn.Module], left: str) -> None:
    found = find(nn.Sequential(*layers), torch.randn(5, 3))
    assert not [place for place in found.places if place.kind != "batch_norm"]
    assert [reason for reason in found.left.values() if reason.startswith(left)]


def test_weights_that_are_computed_from_inputs_are_left_alone() -> None:
    class Hyper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.make, self.last = nn.Linear(3, 12), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            hidden = F.linear(x, self.make(x.mean(0)).view(4, 3))
            result: Tensor = self.last(hidden.relu())
            return result

    found = find(Hyper(), torch.randn(5, 3))
    assert "its weight is computed from the inputs" in found.left.values()


def test_a_weight_that_is_standardised_is_left_alone() -> None:
    class Standardised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.last = nn.Parameter(torch.randn(4, 3)), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.last(F.linear(x, self.w / self.w.norm()).relu())
            return result

    found = find(Standardised(), torch.randn(5, 3))
    assert found.left["w"] == "its weight comes from 'w' by 'div'"


def test_levels_count_the_places_before() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c, self.d = (nn.Linear(3, 3) for _ in "abcd")

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.d((self.b(self.a(x).relu()) * self.c(x)).relu())
            return result

    levels = {place.name: place.level for place in find(Branches(), torch.randn(5, 3)).places}
    assert levels == {"a": 0, "b": 1, "c": 0}
