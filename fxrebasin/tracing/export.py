"""The second front end: ``torch.export``, for models with Python control flow on shapes."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Any

import torch
from torch import nn

from ..errors import TraceError
from ..models.copying import forget_caches, shared_copy
from ..models.rebased import RebasedModule, holder
from ..models.running import clone_tensors, unobserved
from .symbolic import describe_failure


def export(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> RebasedModule:
    """A graph of ATen ops, for the shapes of the example inputs, that shares the parameters.

    Raises:
        TraceError: the module cannot be exported; names the line of the user's source.
    """
    shared = shared_copy(model)
    forget_caches(shared)
    try:
        with unobserved(shared), _silenced():
            exported = torch.export.export(
                shared, *clone_tensors((tuple(args), dict(kwargs))), strict=False
            )
    except Exception as error:
        raise TraceError(describe_failure(model, "torch.export", error)) from error
    for name, value in exported.constants.items():
        if not isinstance(value, torch.Tensor):
            raise TraceError(
                f"torch.export keeps {name!r} in the graph, a {type(value).__name__}, which would "
                "be shared by all copies"
            )
    return from_program(exported, type(model).__name__)


@contextmanager
def _silenced() -> Iterator[None]:
    """Where torch.export fails it prints all of the graph; the error says enough."""
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def from_program(exported: torch.export.ExportedProgram, name: str) -> RebasedModule:
    """The graph of an ``ExportedProgram``; it shares its parameters.

    The checks of input shapes that export adds are left out: they would refuse every other batch
    size, also where the graph does not depend on it.
    """
    module: Any = exported.module()
    for node in module.graph.find_nodes(op="call_module", target="_guards_fn"):
        module.graph.erase_node(node)
    root = holder(module.__dict__)
    root._modules.pop("_guards_fn", None)
    for node in module.graph.find_nodes(op="get_attr"):
        constant = vars(module).get(str(node.target))
        if isinstance(constant, torch.Tensor):  # made in forward
            root.register_buffer(str(node.target), constant, persistent=False)
    return RebasedModule(root, module.graph, name)
