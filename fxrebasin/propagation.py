"""Run a traced graph on units instead of numbers.

The graph is executed by an ``fx.Interpreter`` on the example inputs, under a dispatch mode that
sees every ATen op inside, whether it came from a module, a function or a method, and applies the
op's rule to the layouts of its operands. The numbers are computed as well: they give shapes, and
tell constants that are uniform along an axis from those that are not.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import networkx as nx
import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from .constraint_graph import AxisUnits, axes_of, connect, connect_parents, pinned_axes
from .dispatch import LayoutMode, Propagation, stored_by_identity, unnamed_parameters
from .errors import InvalidInputError
from .layout import Layout, positional
from .tracing import in_placeholder_order, unobserved
from .units import Units


def propagate(
    module: fx.GraphModule, names: nn.Module, args: Sequence[Any], kwargs: dict[str, Any]
) -> Propagation:
    """Propagate units through a traced module.

    Args:
        module: the traced graph; it shares its parameters with ``names``.
        names: the module whose parameter and buffer names are used.
        args, kwargs: example inputs.

    Raises:
        InvalidInputError: the module does not run on the example inputs.
    """
    units = Units()
    stored = stored_by_identity(names)
    found = Propagation(units, unnamed_parameters(stored, units), nx.MultiGraph())
    mode = LayoutMode(found, stored)
    recurrent = any(isinstance(m, nn.RNNBase) for m in module.modules())
    with ExitStack() as stack:
        stack.enter_context(unobserved(module))
        if recurrent:
            stack.enter_context(_without_fused_recurrence())
        inputs = tree_map_only(torch.Tensor, lambda t: t.detach(), (tuple(args), dict(kwargs)))
        for tensor in tree_leaves(inputs):
            if isinstance(tensor, torch.Tensor):
                shape = tuple(tensor.shape)
                mode.storages.put(tensor, Layout(shape, tuple(positional(units, shape))))
        stack.callback(mode.restore)
        stack.enter_context(mode)
        _Propagator(module, mode).run(*in_placeholder_order(module, *inputs))
    return found


@contextmanager
def _without_fused_recurrence() -> Iterator[None]:
    """Have recurrent layers run step by step, through ops that have rules."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of an unrelated setting that it restores
        flags = torch.backends.mkldnn.flags(enabled=False)
        flags.__enter__()
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            flags.__exit__(None, None, None)


class _Propagator(fx.Interpreter):
    """Tells the dispatch mode which node runs, and records the constraint graph."""

    def __init__(self, module: fx.GraphModule, mode: LayoutMode) -> None:
        super().__init__(module)
        self.mode = mode

    def run_node(self, n: fx.Node) -> Any:
        mode = self.mode
        units = mode.found.units
        units.site = n.name
        mode.touched = {}
        known, causes = len(units.parents), len(units.causes)
        try:
            value = super().run_node(n)
        except InvalidInputError:
            raise
        except Exception as error:
            shapes = [
                tuple(self.env[a].shape)
                for a in n.all_input_nodes
                if isinstance(self.env.get(a), torch.Tensor)
            ]
            raise InvalidInputError(
                f"the model does not run on the example inputs: node {n.name!r} "
                f"({n.op} {n.target}) failed on shapes {shapes}: {type(error).__name__}: {error}"
            ) from error
        if n.op == "output":
            mode.pin_outputs(value)
        self._connect(n, value, units.parents[known:])
        if len(units.causes) > causes:
            self._mark_pinned(n, causes)
        return value

    def _mark_pinned(self, n: fx.Node, since: int) -> None:
        """A loop at every axis of this node's operands that was pinned here."""
        mode = self.mode
        found = []
        for source in n.all_input_nodes:
            found += mode.layouts(source.name, self.env.get(source))
        for parameter in mode.touched.values():
            layout = Layout(parameter.shape, tuple(parameter.coordinates))
            found.append((parameter.name, layout))
        for name, layout in found:
            for axis in pinned_axes(name, layout, mode.found.units, since):
                mode.found.graph.add_edge(axis, axis, node=n.name, kind="pinned")

    def _connect(self, n: fx.Node, value: Any, parents: list[Any]) -> None:
        mode = self.mode
        units = mode.found.units
        result = mode.axes(n.name, value)
        inputs: list[AxisUnits] = []
        for source in n.all_input_nodes:
            inputs += mode.axes(source.name, self.env.get(source))
        for parameter in mode.touched.values():
            layout = Layout(parameter.shape, tuple(parameter.coordinates))
            inputs += axes_of(parameter.name, layout, units)
        graph = mode.found.graph
        connect(graph, n.name, result, inputs)
        for k, one in enumerate(inputs):
            connect(graph, n.name, [one], inputs[k + 1 :])
        for child, parent, _ in parents:
            connect_parents(graph, n.name, result + inputs, child, parent)
