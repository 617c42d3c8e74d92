"""Emit a module: the traced graph, running on the stored tensors of a user's module."""

from __future__ import annotations

import copy

from torch import fx, nn

from .rebased import RebasedModule, holder


def emit(model: nn.Module, traced: fx.GraphModule) -> RebasedModule:
    """A module that runs the traced graph on the stored tensors of ``model``, which it shares."""
    graph = copy.deepcopy(traced.graph)
    root = holder(model.__dict__)
    for node in graph.find_nodes(op="get_attr"):
        name = str(node.target)
        if "." not in name and not hasattr(root, name):
            root.register_buffer(name, getattr(traced, name), persistent=False)
    emitted = RebasedModule(root, graph, type(model).__name__)
    emitted.training = model.training
    return emitted
