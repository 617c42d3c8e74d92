"""In which order a descent visits the trees of blocks.

An order is a function from the number of trees, the sweep and a generator to the order of that
sweep. Trees that share no tensor and follow one another are solved at once, so an order is cut
into colours: a tree joins the first colour after those of all its neighbours that came before.

The order decides which optimum a descent ends in, so restarts with other seeds find others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import index

import networkx as nx
import numpy as np

from ..arguments import refuse

__all__ = ["Order", "alternating_order", "graph_order", "random_order"]

Order = Callable[[int, int, np.random.Generator], Sequence[int]]
"""From the number of trees, the number of the sweep and a generator to an order of the trees."""


@dataclass(frozen=True)
class Schedule:
    """The order of every sweep, and how many there may be."""

    order: Order
    generator: np.random.Generator
    max_sweeps: int

    def orders(self, count: int) -> Iterator[Sequence[int]]:
        """Those of the sweeps of one descent over ``count`` trees."""
        for sweep in range(self.max_sweeps):
            given = self.order(count, sweep, self.generator)
            try:
                order = [index(k) for k in given]
            except TypeError:
                refuse("order", f"a function that returns numbers below {count}", given)
            if not set(order) <= set(range(count)):
                refuse("order", f"a function that returns numbers below {count}", given)
            yield order


def random_order(count: int, sweep: int, generator: np.random.Generator) -> Sequence[int]:
    """Another order every sweep, as in Git Re-Basin (Ainsworth et al. 2023, algorithm 1)."""
    order: list[int] = generator.permutation(count).tolist()
    return order


def graph_order(count: int, sweep: int, generator: np.random.Generator) -> Sequence[int]:
    """From the inputs to the outputs, as the model runs."""
    return range(count)


def alternating_order(count: int, sweep: int, generator: np.random.Generator) -> Sequence[int]:
    """From the inputs to the outputs and back again, in turn."""
    return range(count) if sweep % 2 == 0 else range(count - 1, -1, -1)


def colours(order: Sequence[int], shared: nx.Graph) -> list[list[int]]:
    """Cut an order into sets of trees that share no tensor, which may be solved at once.

    Solving the sets one after another changes nothing: of two trees that share a tensor, the one
    that comes first in the order comes first here as well.

    >>> colours([0, 1, 2, 3], nx.path_graph(4))
    [[0], [1], [2], [3]]
    >>> colours([0, 2, 1, 3], nx.path_graph(4))
    [[0, 2], [1, 3]]
    """
    level: dict[int, int] = {}
    result: list[list[int]] = []
    for tree in order:
        level[tree] = max((level[k] + 1 for k in shared[tree] if k in level), default=0)
        if level[tree] == len(result):
            result.append([])
        result[level[tree]].append(tree)
    return result
