"""A ``GraphModule`` that keeps everything that the module it came from stores.

>>> import torch
>>> from torch import fx
>>> model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))
>>> emitted = emit(model, fx.symbolic_trace(model))
>>> list(emitted.state_dict()) == list(model.state_dict())
True
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import fx, nn
from torch.compiler import is_compiling
from torch.fx.graph_module import reduce_graph_module

from ..errors import FxrebasinError
from .made_for import MadeFor

META = "fxrebasin"
"""The key under which passes and results are kept in ``GraphModule.meta``."""
MADE_FOR = "fxrebasin.made_for"
"""The key of the inputs that a graph was made for, where it was exported."""


class RebasedModule(fx.GraphModule):
    """A traced module with all parameters, buffers and submodules of the one it came from.

    A plain ``GraphModule`` drops what its graph does not use and reorders the rest; this one has
    the same state dict keys in the same order, also after ``copy.deepcopy`` and pickling.
    """

    def __init__(self, root: nn.Module, graph: fx.Graph, class_name: str = "RebasedModule") -> None:
        super().__init__(root, graph, class_name)
        referenced: dict[str, dict[str, Any]] = {
            "_modules": dict(self._modules),
            "_buffers": dict(self._buffers),
        }
        self._modules = dict(root._modules)
        self._parameters = dict(root._parameters)
        self._buffers = dict(root._buffers)
        self._non_persistent_buffers_set = set(root._non_persistent_buffers_set)
        for kind, known in referenced.items():
            for name, value in known.items():
                getattr(self, kind).setdefault(name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the graph.

        Raises:
            InvalidInputError: it was exported for inputs of other shapes, and does not hold for
                these.
        """
        made_for: MadeFor | None = None if is_compiling() else self.meta.get(MADE_FOR)
        other = made_for.refused(args, kwargs) if made_for else []
        if made_for is None or not other:
            return super().__call__(*args, **kwargs)
        if made_for.only:
            made_for.refuse(other)
        try:
            return super().__call__(*args, **kwargs)
        except FxrebasinError:
            raise
        except Exception as error:
            made_for.refuse(other, error)

    @property
    def report(self) -> Any:
        """How this module came about; None once it has been pickled."""
        return self.meta.get(META)

    def _deepcopy_init(self) -> Callable[..., None]:
        return RebasedModule.__init__

    def __reduce__(self) -> tuple[Any, ...]:
        _, (body, import_block) = super().__reduce__()
        # The tracer of torch.export cannot be made again; any will do for a graph that is ready.
        body = {k: v for k, v in body.items() if k not in ("meta", "_tracer_cls")}
        return _restore, (body, import_block, self.training, self.meta.get(MADE_FOR))


def _restore(
    body: dict[str, Any], import_block: str, training: bool, made_for: MadeFor | None = None
) -> RebasedModule:
    traced: Any = reduce_graph_module(dict(body), import_block)
    restored = RebasedModule(holder(body), traced.graph)
    restored.training = training
    restored.meta[MADE_FOR] = made_for
    return restored


def emit(model: nn.Module, traced: fx.GraphModule) -> RebasedModule:
    """A module that runs the traced graph on the stored tensors of ``model``, which it shares."""
    graph = copy.deepcopy(traced.graph)
    root = holder(model.__dict__)
    for node in graph.find_nodes(op="get_attr"):
        name = str(node.target)
        if "." not in name and not hasattr(root, name):
            value = getattr(traced, name)
            if isinstance(value, nn.Module):  # a region, as of autocast, in an exported graph
                root.add_module(name, value)
            else:
                root.register_buffer(name, value, persistent=False)
    emitted = RebasedModule(root, graph, type(model).__name__)
    emitted.training = model.training
    emitted.meta[MADE_FOR] = traced.meta.get(MADE_FOR)
    return emitted


def holder(attributes: dict[str, Any]) -> nn.Module:
    """A plain module that holds the parameters, buffers and submodules found in a ``__dict__``."""
    root = nn.Module()
    root.__dict__.update({k: copy.copy(attributes[k]) for k in root.__dict__ if k in attributes})
    return root
