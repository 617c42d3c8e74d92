"""Orders of a descent, and the sets that they are cut into."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fxrebasin.matching.schedules import alternating_order, colours, graph_order, random_order


@given(st.integers(1, 12), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_an_order_of_sets_is_an_order_of_trees(count: int, density: float, seed: int) -> None:
    shared = nx.gnp_random_graph(count, density, seed=seed)
    order = np.random.default_rng(seed).permutation(count).tolist()
    found = colours(order, shared)
    assert sorted(k for colour in found for k in colour) == list(range(count))
    place = {k: c for c, colour in enumerate(found) for k in colour}
    for a, b in shared.edges:
        assert place[a] != place[b]
        assert (place[a] < place[b]) == (order.index(a) < order.index(b))


def test_what_shares_nothing_is_one_set() -> None:
    assert colours([3, 1, 2], nx.empty_graph(4)) == [[3, 1, 2]]


@pytest.mark.parametrize("order", [random_order, graph_order, alternating_order])
def test_every_tree_is_visited_once(order: object) -> None:
    assert callable(order)
    for sweep in range(3):
        visits = order(7, sweep, np.random.default_rng(sweep))
        assert sorted(visits) == list(range(7))


def test_directions() -> None:
    generator = np.random.default_rng(0)
    assert [*graph_order(3, 1, generator)] == [0, 1, 2]
    assert [*alternating_order(3, 0, generator)] == [0, 1, 2]
    assert [*alternating_order(3, 1, generator)] == [2, 1, 0]
    assert random_order(9, 0, generator) != random_order(9, 1, generator)
