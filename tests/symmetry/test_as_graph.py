"""Which blocks share parameters, which lie in which, and which way the parameters lead."""

from __future__ import annotations

from functools import cache
from itertools import combinations

import networkx as nx
import numpy as np
import pytest
import torch
from networks import NETWORKS
from torch import Tensor, nn

import fxrebasin as fr
from fxrebasin import Block, Permutation, Symmetry
from fxrebasin.symmetry.as_graph import block_graph, short_labels
from fxrebasin.symmetry.flows import Flow, ancestors, blocks_on, flows

torch.set_num_threads(1)

# A few in the fast suite, and all in the whole one.
NAMES = [
    pytest.param(name, marks=[pytest.mark.slow] if k % 6 else []) for k, name in enumerate(NETWORKS)
]


@cache
def group(name: str) -> Symmetry:
    torch.manual_seed(0)
    network = NETWORKS[name]
    return fr.analyze(network.factory(), args=network.inputs(2))


def analyse(model: nn.Module, *shape: int) -> Symmetry:
    return fr.analyze(model.eval(), args=(torch.zeros(2, *shape),))


def shared(graph: nx.MultiDiGraph) -> dict[tuple[str, str], tuple[str, ...]]:
    """The edges "shares", with their parameters."""
    edges = graph.edges(keys=True, data=True)
    return {(u, v): found["parameters"] for u, v, key, found in edges if key == "shares"}


class Residual(nn.Module):
    """A stream of 6 that one hidden layer of 5 reads and writes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.enter = nn.Conv2d(6, 5, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(5)
        self.leave = nn.Conv2d(5, 6, 3, padding=1, bias=False)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = x + self.leave(self.norm(self.enter(x)).relu())
        result: Tensor = self.head(x.mean((2, 3)))
        return result


def test_a_chain_of_layers() -> None:
    layers = [nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)]
    graph = block_graph(analyse(nn.Sequential(*layers), 3))
    assert [*graph] == ["0.weight[0]", "2.weight[0]"]
    assert shared(graph) == {("0.weight[0]", "2.weight[0]"): ("2.weight",)}
    first, last = (graph.nodes[name] for name in graph)
    assert first["size"] == first["units"] == 6
    assert first["count"] == 1
    assert first["parent"] is None
    assert first["log_order"] == pytest.approx(np.log(720))
    assert (first["label"], last["label"]) == ("0", "2")
    assert (first["vectors"], last["vectors"]) == (("0.bias",), ("2.bias",))
    assert (first["from_pinned"], first["to_pinned"]) == (("0.weight",), ())
    assert (last["from_pinned"], last["to_pinned"]) == ((), ("4.weight",))


def test_a_residual_stream_is_read_and_written() -> None:
    graph = block_graph(analyse(Residual(), 3, 8, 8))
    stream, hidden = "stem.weight[0]", "enter.weight[0]"
    assert shared(graph) == {
        (stream, hidden): ("enter.weight",),
        (hidden, stream): ("leave.weight",),
    }
    assert graph.nodes[hidden]["vectors"] == ("norm.weight", "norm.bias")
    assert graph.nodes[hidden]["buffers"] == ("norm.running_mean", "norm.running_var")
    assert graph.nodes[stream]["from_pinned"] == ("stem.weight",)
    assert graph.nodes[stream]["to_pinned"] == ("head.weight",)


def test_heads_and_the_features_inside_them() -> None:
    graph = block_graph(group("torch_attention"))
    nested = [(u, v) for u, v, key in graph.edges(keys=True) if key == "nested"]
    assert nested
    for parent, child in nested:
        assert graph.nodes[child]["parent"] == parent
        assert graph.edges[parent, child, "nested"]["kind"] == "nested"
        assert not graph.has_edge(parent, child, "shares")
        assert graph.nodes[child]["count"] == graph.nodes[parent]["units"]


def test_a_recurrent_weight_is_a_loop() -> None:
    graph = block_graph(group("lstm"))
    loops = {(u, v): names for (u, v), names in shared(graph).items() if u == v}
    assert loops
    assert all("weight_hh" in name for names in loops.values() for name in names)
    assert all(graph.edges[u, v, "shares"]["directed"] for u, v in loops)


def test_a_grouped_convolution_leads_from_channel_to_channel_inside_its_groups() -> None:
    layers = [nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 9, 3, groups=3), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(9, 2))
    graph = block_graph(analyse(model, 3, 3, 3))
    groups, inner, outer = "0.weight[0]", "0.weight[0]#2", "2.weight[0]"
    assert graph.nodes[inner]["parent"] == graph.nodes[outer]["parent"] == groups
    assert shared(graph) == {(inner, outer): ("2.weight",)}
    assert graph.edges[inner, outer, "shares"]["directed"]


def test_a_depthwise_kernel_leads_nowhere() -> None:
    layers = [nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, groups=6, bias=False), nn.Flatten()]
    symmetry = analyse(nn.Sequential(*layers, nn.Linear(6, 2)), 3, 3, 3)
    graph = block_graph(symmetry)
    assert graph.nodes["0.weight[0]"]["vectors"] == ("0.bias", "1.weight")
    assert [flow.parameter for flow in flows(symmetry)] == ["0.weight", "3.weight"]


@pytest.mark.parametrize("name", NAMES)
def test_blocks_share_exactly_the_parameters_with_entries_that_both_move(name: str) -> None:
    """Every unit of one block is moved, and then of the other: some entry moves both times."""
    symmetry = group(name)
    graph = block_graph(symmetry)
    moved = {block.name: _moved_entries(symmetry, block) for block in symmetry}
    for one, other in combinations(symmetry.blocks, 2):
        if one in ancestors(symmetry.blocks, other) or other in ancestors(symmetry.blocks, one):
            continue
        expected = {
            parameter
            for parameter, entries in moved[one].items()
            if bool((entries & moved[other][parameter]).any())
        }
        found = {
            parameter
            for ends in ((one, other), (other, one))
            if graph.has_edge(*ends, "shares")
            for parameter in graph.edges[(*ends, "shares")]["parameters"]
        }
        assert found == expected, (one, other)


def _moved_entries(symmetry: Symmetry, block: Block) -> dict[str, Tensor]:
    indices = dict(Permutation.identity(symmetry).indices)
    indices[block.name] = np.roll(indices[block.name], 1, axis=1)
    permutation = Permutation(symmetry, indices)
    result = {}
    for parameter in symmetry.parameters:
        if not parameter.is_buffer:
            numbers = torch.arange(int(np.prod(parameter.shape))).reshape(parameter.shape)
            result[parameter.name] = permutation.permute(parameter, numbers) != numbers
    return result


@pytest.mark.parametrize("name", NAMES)
def test_labels_are_unique_among_blocks_with_the_same_parent(name: str) -> None:
    symmetry = group(name)
    labels = short_labels(symmetry.blocks)
    found = [(symmetry.blocks[name].parent, label) for name, label in labels.items()]
    assert labels.keys() == symmetry.blocks.keys()
    assert len({*found}) == len(found)
    assert all(labels.values())


# directions


def test_transposed_convolutions_without_bias_are_told_by_what_was_there_before() -> None:
    layers = [nn.ConvTranspose2d(3, 6, 2, bias=False), nn.ReLU()]
    layers += [nn.ConvTranspose2d(6, 5, 2, bias=False), nn.ReLU(), nn.ConvTranspose2d(5, 2, 2)]
    symmetry = analyse(nn.Sequential(*layers), 3, 4, 4)
    assert flows(symmetry) == [
        Flow("0.weight", (), ("0.weight[1]",), 3),
        Flow("2.weight", ("0.weight[1]",), ("2.weight[1]",)),
        Flow("4.weight", ("2.weight[1]",), (), 2),
    ]


class TransposedResidual(nn.Module):
    """Weights ``(in, out)``, with biases."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(3, 6)
        self.enter_weight = nn.Parameter(torch.randn(6, 5))
        self.enter_bias = nn.Parameter(torch.randn(5))
        self.leave_weight = nn.Parameter(torch.randn(5, 6))
        self.leave_bias = nn.Parameter(torch.randn(6))
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        hidden = (x @ self.enter_weight + self.enter_bias).relu()
        result: Tensor = self.head(x + hidden @ self.leave_weight + self.leave_bias)
        return result


def test_a_bias_tells_the_output_axis() -> None:
    found = {f.parameter: f for f in flows(analyse(TransposedResidual(), 3))}
    (stream,) = found["stem.weight"].writes
    (hidden,) = found["enter_weight"].writes
    assert found["enter_weight"].reads == (stream,)
    assert found["leave_weight"].reads == (hidden,)
    assert found["leave_weight"].writes == (stream,)


class Tokens(nn.Module):
    """Embeddings of words and places, and a head without bias."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 6)
        self.places = nn.Embedding(4, 6)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 7, bias=False)
        if tied:
            self.head.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.norm(self.words(x) + self.places.weight))
        return result


def _tokens(tied: bool) -> list[Flow]:
    return flows(fr.analyze(Tokens(tied), args=(torch.zeros(2, 4, dtype=torch.long),)))


def test_embeddings_are_inputs_and_a_head_without_bias_is_an_output() -> None:
    (name,) = {name for flow in _tokens(tied=False) for name in flow.blocks}
    assert _tokens(tied=False) == [
        Flow("words.weight", (), (name,), 7),
        Flow("places.weight", (), (name,), 4),
        Flow("head.weight", (name,), (), 7),
    ]


def test_a_tied_embedding_is_both() -> None:
    ends = [(bool(f.reads), bool(f.writes)) for f in _tokens(tied=True) if "words" in f.parameter]
    assert sorted(ends) == [(False, True), (True, False)]


def test_what_cannot_be_told_has_no_direction() -> None:
    symmetry = group("BilinearForm")
    graph = block_graph(symmetry)
    ((ends, parameters),) = shared(graph).items()
    assert parameters == ("form",)
    assert not graph.edges[(*ends, "shares")]["directed"]
    assert ends == tuple(symmetry.blocks)
    (flow,) = (f for f in flows(symmetry) if not f.directed)
    assert not flow.writes


def test_experts_are_no_end_of_their_own_matrices() -> None:
    found = {f.parameter: f for f in flows(group("MixtureOfExperts"))}
    assert found["up"].writes == ("up[0]#2",)
    assert found["up"].reads == ()
    assert "up[0]" not in found["down"].blocks


def test_nothing_moves() -> None:
    symmetry = analyse(nn.Linear(3, 2), 3)
    assert len(block_graph(symmetry)) == 0
    assert flows(symmetry) == []


def test_axes_that_move_jointly_are_told_apart() -> None:
    layers = [nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 9, 3, groups=3), nn.Flatten()]
    symmetry = analyse(nn.Sequential(*layers, nn.Linear(9, 2)), 3, 3, 3)
    (weight,) = (p for p in symmetry.parameters if p.name == "2.weight")
    assert blocks_on(weight) == {0: ("0.weight[0]", "2.weight[0]"), 1: ("0.weight[0]#2",)}


class OutOfOrder(nn.Module):
    """Layers that are defined from the last to the first."""

    def __init__(self) -> None:
        super().__init__()
        self.last, self.middle, self.first = nn.Linear(5, 2), nn.Linear(6, 5), nn.Linear(3, 6)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.last(self.middle(self.first(x).relu()).relu())
        return result


def test_the_order_of_definition_does_not_matter_with_biases() -> None:
    ends = {f.parameter: (bool(f.reads), bool(f.writes)) for f in flows(analyse(OutOfOrder(), 3))}
    assert ends == {
        "last.weight": (True, False),
        "middle.weight": (True, True),
        "first.weight": (False, True),
    }
