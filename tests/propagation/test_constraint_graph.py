"""The constraint graph: which axes are bound to which, by which node, and how."""

from __future__ import annotations

from functools import cache

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fxrebasin.layouts.ids import Ids
from fxrebasin.models.rebased import META
from fxrebasin.passes import Propagate
from fxrebasin.passes.state import State, state_of
from fxrebasin.propagation.constraint_graph import AxisUnits, Sharing
from fxrebasin.symmetry.evidence import Axis
from fxrebasin.tracing.symbolic import trace

torch.set_num_threads(1)


class ResidualMLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.up, self.down = nn.Linear(3, 5), nn.Linear(5, 7), nn.Linear(7, 5)
        self.leave = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x)
        h = h + self.down(self.up(h).relu())
        return self.leave(h)


class Concat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.leave = nn.Linear(3, 4), nn.Linear(3, 5), nn.Linear(9, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(torch.cat([self.left(x), self.right(x)], 1))


class Flattened(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.leave = nn.Conv2d(3, 4, 3), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.conv(x).flatten(1))


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.scale = nn.Linear(3, 6), nn.Parameter(torch.ones(2, 1))
        self.leave = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave((self.enter(x).unflatten(1, (2, 3)) * self.scale).flatten(1))


class Ordered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.enter(x).cumsum(1))


NETS: dict[str, tuple[type[nn.Module], Tensor]] = {
    "ResidualMLP": (ResidualMLP, torch.zeros(2, 3)),
    "Concat": (Concat, torch.zeros(2, 3)),
    "Flattened": (Flattened, torch.zeros(2, 3, 4, 4)),
    "Heads": (Heads, torch.zeros(2, 3)),
    "Ordered": (Ordered, torch.zeros(2, 3)),
}


@cache
def graph_of(name: str) -> tuple[nn.Module, list[str], nx.MultiGraph]:
    """A network, the names of the nodes of its traced graph, and the constraint graph."""
    factory, x = NETS[name]
    model = factory()
    traced = trace(model)
    traced.meta[META] = State(model)
    Propagate((x,))(traced)
    facts = state_of(traced).facts
    assert facts is not None
    return model, [n.name for n in traced.graph.nodes], facts.graph


def edges(graph: nx.MultiGraph, a: Axis, b: Axis) -> set[tuple[str, str]]:
    """The nodes that impose something on two axes, and what."""
    return {(d["node"], d["kind"]) for d in (graph.get_edge_data(a, b) or {}).values()}


def kinds(graph: nx.MultiGraph) -> set[str]:
    return {d["kind"] for *_, d in graph.edges(data=True)}


@pytest.mark.parametrize("name", NETS)
def test_nodes_are_axes_of_parameters_and_values(name: str) -> None:
    model, nodes, graph = graph_of(name)
    shapes = {n: tuple(p.shape) for n, p in model.named_parameters()}
    assert isinstance(graph, nx.MultiGraph)
    assert graph.number_of_nodes() > 0
    for tensor, dim in graph.nodes:
        if tensor in shapes:
            assert 0 <= dim < len(shapes[tensor])
        else:
            assert tensor in nodes
            assert dim >= 0


@pytest.mark.parametrize("name", NETS)
def test_edges_name_their_node_and_their_kind(name: str) -> None:
    _, nodes, graph = graph_of(name)
    for a, b, data in graph.edges(data=True):
        assert a != b or data["kind"] == "pinned"
        assert data["node"] in nodes
        assert data["kind"] in {"equal", "part", "product", "parent", "pinned"}


def test_a_bias_is_equal_to_the_axis_it_is_added_to() -> None:
    _, _, graph = graph_of("ResidualMLP")
    for layer in ("enter", "up", "down"):
        assert (layer, "equal") in edges(graph, (f"{layer}.weight", 0), (f"{layer}.bias", 0))
        assert (layer, "equal") in edges(graph, (f"{layer}.weight", 0), (layer, 1))


def test_a_layer_is_equal_to_the_one_before_it() -> None:
    _, _, graph = graph_of("ResidualMLP")
    assert ("down", "equal") in edges(graph, ("down.weight", 1), ("relu", 1))
    assert ("relu", "equal") in edges(graph, ("relu", 1), ("up", 1))


def test_a_residual_connection_ties_the_two_branches() -> None:
    _, _, graph = graph_of("ResidualMLP")
    assert ("add", "equal") in edges(graph, ("enter", 1), ("down", 1))
    stream = nx.node_connected_component(
        nx.Graph((a, b) for a, b, d in graph.edges(data=True) if d["kind"] == "equal"),
        ("enter.weight", 0),
    )
    expected = {("enter.weight", 0), ("up.weight", 1), ("down.weight", 0), ("leave.weight", 1)}
    assert expected <= stream
    assert ("up.weight", 0) not in stream


def test_inputs_are_bound_to_nothing_that_moves() -> None:
    _, _, graph = graph_of("ResidualMLP")
    for a, b, data in graph.edges(data=True):
        if ("enter.weight", 1) in (a, b) or ("x", 1) in (a, b):
            assert data["kind"] == "pinned"


def test_the_parts_of_a_concatenation() -> None:
    _, _, graph = graph_of("Concat")
    for branch in ("left", "right"):
        assert edges(graph, (branch, 1), ("cat", 1)) == {("cat", "part")}
    assert not edges(graph, ("left", 1), ("right", 1))


def test_a_flattened_feature_map_is_a_product() -> None:
    _, _, graph = graph_of("Flattened")
    assert edges(graph, ("conv", 1), ("flatten", 1)) == {("flatten", "product")}
    assert {node for node, _ in edges(graph, ("flatten", 1), ("leave.weight", 1))} == {"leave"}


def test_an_axis_that_is_split_is_a_product_of_its_parts() -> None:
    _, _, graph = graph_of("Heads")
    assert edges(graph, ("enter", 1), ("unflatten", 1)) == {("unflatten", "product")}
    assert edges(graph, ("enter", 1), ("unflatten", 2)) == {("unflatten", "product")}


def test_features_have_their_head_as_parent() -> None:
    _, _, graph = graph_of("Heads")
    assert ("mul", "parent") in edges(graph, ("scale", 0), ("unflatten", 1))


@pytest.mark.parametrize(
    ("name", "axis", "node"),
    [
        ("Ordered", ("enter", 1), "cumsum"),
        ("Ordered", ("leave", 1), "output"),
        ("ResidualMLP", ("leave", 1), "output"),
    ],
)
def test_what_pins_an_axis_is_recorded(name: str, axis: Axis, node: str) -> None:
    _, _, graph = graph_of(name)
    found = [d for _, _, d in graph.edges(axis, data=True) if d["kind"] == "pinned"]
    assert [d["node"] for d in found] == [node]


def test_all_kinds_occur() -> None:
    found = set().union(*(kinds(graph_of(name)[2]) for name in NETS))
    assert found == {"equal", "part", "product", "parent", "pinned"}


UNIT_SETS = st.lists(
    st.sets(st.integers(0, 9), min_size=1, max_size=4).map(lambda s: np.array(sorted(s))),
    min_size=1,
    max_size=2,
)


@given(sets=st.lists(UNIT_SETS, max_size=7), some=st.sets(st.integers(0, 9)))
@settings(deadline=None, derandomize=True)
def test_axes_that_share_units_are_found_without_comparing_all(
    sets: list[list[Ids]], some: set[int]
) -> None:
    axes = [AxisUnits((f"t{k}", 0), tuple(units), False) for k, units in enumerate(sets)]
    held = [set(np.concatenate(units).tolist()) for units in sets]
    sharing = Sharing(axes)
    for k, mine in enumerate(held):
        assert sharing.partners(k) == [j for j, other in enumerate(held) if mine & other]
    wanted = np.array(sorted(some), dtype=np.int64)
    assert sharing.holders(wanted) == [j for j, other in enumerate(held) if other & some]
