"""The second front end: ``torch.export``, for models with Python control flow on shapes."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Any

import torch
from torch import fx, nn

from ..errors import TraceError
from ..models.copying import forget_caches, shared_copy
from ..models.made_for import MadeFor, shapes_of_placeholders
from ..models.rebased import MADE_FOR, RebasedModule, holder
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
        with unobserved(shared, seed=None), _silenced():
            exported = torch.export.export(
                shared, *clone_tensors((tuple(args), dict(kwargs))), strict=False
            )
    except Exception as error:
        raise TraceError(describe_failure(model, "torch.export", error)) from error
    _refuse_functions(exported.graph)
    _refuse_constants(exported.constants)
    try:
        return from_program(exported, type(model).__name__)
    except Exception as error:  # something it stores is called as an attribute of graphs is
        raise TraceError(describe_failure(model, "torch.export", error)) from error


REGIONS = ("wrap_with_autocast", "wrap_with_set_grad_enabled")


def _refuse_functions(graph: fx.Graph) -> None:
    """Calls that take functions, or open and close levels of ``torch.func``, do not run alone."""
    for node in graph.nodes:
        name = ""
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            name = node.target.name()
        elif str(getattr(node.target, "__module__", "")).startswith("torch._functorch"):
            name = "a transform of torch.func, such as torch.vmap,"
        if name and name not in REGIONS:
            raise TraceError(f"torch.export keeps {name} as calls that cannot be run one by one")


def _refuse_constants(constants: Mapping[str, Any]) -> None:
    for name, value in constants.items():
        if not isinstance(value, torch.Tensor):
            raise TraceError(
                f"torch.export keeps {name!r} in the graph, a {type(value).__name__}, which would "
                "be shared by all copies"
            )


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
    traced = RebasedModule(root, module.graph, name)
    traced.meta[MADE_FOR] = MadeFor(shapes_of_placeholders(module.graph))
    return traced
