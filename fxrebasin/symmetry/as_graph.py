"""The blocks of a symmetry as a graph: what lies in what, and what shares parameters with what.

It is a :class:`networkx.MultiDiGraph`. Directed, since a parameter is read along one axis and
written along another and a parent is not its child; a multigraph with the kind of an edge as its
key, since a nested block may share parameters with its own parent. Loops are kept: a recurrent
weight has its block on both axes. Blocks without an edge between them, loops aside, can be solved
for independently of each other.

Nodes are the blocks by name:

============ =====================================================================
size, count  as in :class:`~fxrebasin.Block`; ``units`` is their product
parent       the block that it is nested in, or None
log_order    natural logarithm of the number of its permutations
label        a short name, unique among the blocks with the same parent
vectors      the biases, norms and the like, whose only moving axis is this block's
buffers      the buffers that move with it, such as running statistics
from_pinned  the parameters that lead from pinned units to it: the network's inputs
to_pinned    the parameters that lead from it to pinned units: the network's outputs
============ =====================================================================

Edges lead from parent to child (key and ``kind`` "nested") or from the block that a parameter
reads to the one that it writes ("shares", with the names of the ``parameters``). ``directed`` is
false where none of an edge's parameters tells which of its axes is the output; such an edge leads
from the block that is named first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import combinations, product

import networkx as nx

from .flows import Flow, ancestors, flows
from .parts import AxisGroup, Block, Group, ParameterSymmetry


def block_graph(symmetry: Group) -> nx.MultiDiGraph:
    """The graph of a symmetry's blocks.

    >>> import torch, fxrebasin as fr
    >>> net = torch.nn.Sequential(
    ...     torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4), torch.nn.Linear(4, 2)
    ... )
    >>> graph = block_graph(fr.analyze(net, args=(torch.zeros(1, 2),)))
    >>> for one, other, found in graph.edges(data=True):
    ...     print(one, "->", other, found["kind"], found["parameters"])
    0.weight[0] -> 2.weight[0] shares ('2.weight',)
    >>> graph.nodes["2.weight[0]"]["to_pinned"]
    ('3.weight',)
    """
    graph = nx.MultiDiGraph()
    labels = short_labels(symmetry.blocks)
    for block in symmetry.blocks.values():
        graph.add_node(
            block.name,
            size=block.size,
            count=block.count,
            units=block.units,
            parent=block.parent,
            log_order=block.log_order,
            label=labels[block.name],
            axes=block.axes,
            vectors=(),
            buffers=(),
            from_pinned=(),
            to_pinned=(),
        )
    for block in symmetry.blocks.values():
        if block.parent is not None:
            graph.add_edge(block.parent, block.name, "nested", kind="nested")
    directions = flows(symmetry)
    for flow in directions:
        _name_pinned_ends(graph, flow)
    found = {flow.parameter: flow for flow in directions}
    for parameter in symmetry.parameters:
        _share(graph, symmetry.blocks, parameter, found.get(parameter.name))
    return graph


def short_labels(blocks: Mapping[str, Block]) -> dict[str, str]:
    """A readable name for every block, unique among those with the same parent.

    That is the first module that the block lies in; or else its first parameter, or the module
    with a number.

    >>> from fxrebasin import Block
    >>> names = ["embed.weight[1]", "rnn.weight_ih_l0[0]", "rnn.weight_ih_l1[0]"]
    >>> names += ["conv.weight[0]", "conv.weight[0]#2"]
    >>> [*short_labels({name: Block(name, 2) for name in names}).values()]
    ['embed', 'rnn.weight_ih_l0', 'rnn.weight_ih_l1', 'conv#1', 'conv#2']
    """
    choices = {}
    for full in blocks:
        axis, _, number = full.partition("#")
        parameter = axis.rpartition("[")[0]
        module = parameter.rpartition(".")[0] or parameter
        choices[full] = (module, parameter, f"{module}#{number or 1}", full)
    result: dict[str, str] = {}
    for level in range(4):
        taken = Counter((blocks[name].parent, c[level]) for name, c in choices.items())
        for name, choice in choices.items():
            if taken[blocks[name].parent, choice[level]] == 1:
                result.setdefault(name, choice[level])
    return result


def _name_pinned_ends(graph: nx.MultiDiGraph, flow: Flow) -> None:
    if flow.pinned_units and flow.directed:
        for names, key in ((flow.reads, "to_pinned"), (flow.writes, "from_pinned")):
            for name in names:
                graph.nodes[name][key] += (flow.parameter,)


def _share(
    graph: nx.MultiDiGraph,
    blocks: Mapping[str, Block],
    parameter: ParameterSymmetry,
    flow: Flow | None,
) -> None:
    """Count a parameter at the blocks that it only moves with, or on the edges between blocks."""
    if flow is None:
        key = "buffers" if parameter.is_buffer else "vectors"
        for name in dict.fromkeys(n for g in parameter.groups for n in _names(g)):
            graph.nodes[name][key] += (parameter.name,)
    if parameter.is_buffer:
        return
    reads, writes = (flow.reads, flow.writes) if flow else ((), ())
    for one, other in _moved_together(blocks, parameter):
        directed = True
        if other in reads and one in writes:
            one, other = other, one
        elif one not in reads or other not in writes:
            directed = False
        if not graph.has_edge(one, other, "shares"):
            graph.add_edge(one, other, "shares", kind="shares", parameters=(), directed=False)
        edge = graph.edges[one, other, "shares"]
        edge["parameters"] += (parameter.name,)
        edge["directed"] |= directed


def _moved_together(
    blocks: Mapping[str, Block], parameter: ParameterSymmetry
) -> Iterator[tuple[str, str]]:
    """Pairs of blocks that some entry of a parameter moves with, the earlier axis first."""
    for group, further in combinations(parameter.groups, 2):
        yield from product(_names(group), _names(further))
    seen = set()
    for group in parameter.groups:
        for segment in group.segments:
            for one, other in combinations(segment.blocks, 2):
                nested = one in ancestors(blocks, other) or other in ancestors(blocks, one)
                if not nested and (one, other) not in seen:
                    seen.add((one, other))
                    yield one, other


def _names(group: AxisGroup) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for segment in group.segments for name in segment.blocks))
