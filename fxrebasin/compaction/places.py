"""Where the blocks of a model lie in the values of its graph, not in its parameters alone.

The graph is run on units once more, with all of its values as outputs that are free to move: the
group then says of each of them, as of parameters, which axis is made of which blocks. That is what
the constants of a graph, such as the sizes of a view, are worked out from.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx, nn

from ..layouts.facts import Facts
from ..models.inputs import in_placeholder_order
from ..models.interpreter import Interpreter
from ..models.outputs import output_tensors
from ..models.running import clone_tensors, unobserved
from ..propagation.interpreter import propagate
from ..refinement.build import build_symmetry
from ..rules.registry import RuleBook
from ..symmetry.group import Symmetry
from ..symmetry.parts import ParameterSymmetry
from .plan import Plan, kept_on_axes


@dataclass(frozen=True, eq=False)
class Places:
    """What is known of the values of a graph, by the names of its nodes."""

    shapes: Mapping[str, tuple[int, ...]]
    """Of every value that is a tensor."""
    values: Mapping[str, ParameterSymmetry]
    """Where the blocks lie in them; of some values, such as repeated ones, it is not known."""

    def kept(self, node: str, plan: Plan) -> dict[int, Any] | None:
        """Per axis of a value that becomes shorter, the places that are left; None if unknown.

        Raises:
            NotABoxError: what is left has no rectangular shape.
        """
        known = self.values.get(node)
        return None if known is None else kept_on_axes(known, plan)

    def shape(self, node: str, plan: Plan) -> tuple[int, ...] | None:
        """The shape that a value will have; None if that is not known.

        Raises:
            NotABoxError: what is left has no rectangular shape.
        """
        kept = self.kept(node, plan)
        if kept is None:
            return None
        return tuple(len(kept[a]) if a in kept else n for a, n in enumerate(self.shapes[node]))


def find_places(
    module: fx.GraphModule,
    names: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    rules: RuleBook,
    symmetry: Symmetry,
) -> Places:
    """Find where the blocks of a symmetry lie in the values of a graph.

    Args:
        module: the graph.
        names: the module that it was traced from.
        args, kwargs: example inputs.
        rules: those that the symmetry was found with.
        symmetry: of the model.
    """
    values = values_of(module, args, kwargs)
    told = output_tensors(values.pop("output"))
    shapes = {name: tuple(v.shape) for name, v in values.items() if _is_numbers(v)}
    movable = [name for name in shapes if _is_described(values[name])]
    exposed, exposing = _expose(module, movable)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        free = range(len(told), len(told) + len(exposed))
        found = propagate(exposing, names, args, dict(kwargs), rules=rules, free_outputs=free)
        outputs = list(zip(exposed, found.outputs, strict=True))
        described = _describe(found, outputs, symmetry)
    return Places(shapes, described)


class _Recorder(Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.values: dict[str, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        self.values[n.name] = value = super().run_node(n)
        return value


def values_of(
    module: fx.GraphModule, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """The values of all nodes on example inputs."""
    recorder = _Recorder(module)
    with unobserved(module):
        given = clone_tensors((tuple(args), dict(kwargs)))
        recorder.run(*in_placeholder_order(module, *given), enable_io_processing=False)
    return recorder.values


def _is_numbers(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.layout == torch.strided


def _is_described(value: torch.Tensor) -> bool:
    """Whole numbers may be positions of units, which may not be read without pinning these."""
    return value.is_floating_point() or value.is_complex() or value.dtype == torch.bool


def _expose(module: fx.GraphModule, names: Sequence[str]) -> tuple[list[str], fx.GraphModule]:
    """A graph whose values are outputs too, after the outputs that it has."""
    graph = copy.deepcopy(module.graph)
    (output,) = graph.find_nodes(op="output")
    aliases = []
    with graph.inserting_before(output):
        for node in [n for n in graph.nodes if n.name in set(names)]:
            # A tensor of its own, so that what is given twice comes twice.
            aliases.append((node.name, graph.call_function(torch.ops.aten.alias.default, (node,))))
    output.args = ((output.args[0], tuple(alias for _, alias in aliases)),)
    return [name for name, _ in aliases], fx.GraphModule(module, graph)


Output = tuple[str, Any]


def _describe(
    found: Facts, outputs: Sequence[Output], symmetry: Symmetry
) -> dict[str, ParameterSymmetry]:
    """Each value by segments; values for which the group would have to be smaller are left out."""
    described = _try(found, outputs, symmetry)
    if described is not None:
        return described
    if len(outputs) == 1:
        return {}
    half = len(outputs) // 2
    return {
        **_describe(found, outputs[:half], symmetry),
        **_describe(found, outputs[half:], symmetry),
    }


def _try(
    found: Facts, outputs: Sequence[Output], symmetry: Symmetry
) -> dict[str, ParameterSymmetry] | None:
    tried = copy.copy(found)
    tried.units = copy.deepcopy(found.units)  # what does not close is pinned in it
    tried.outputs = [parameter for _, parameter in outputs]
    built = build_symmetry(tried).symmetry
    for name, block in symmetry.blocks.items():
        other = built.blocks.get(name)
        if other is None or (other.size, other.count, other.parent) != (
            block.size,
            block.count,
            block.parent,
        ):
            return None
    pairs = zip(outputs, built.outputs, strict=True)
    return {name: replace(x, names=(name,)) for (name, _), x in pairs}
