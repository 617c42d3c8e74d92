"""Activation matching: align the units of B with those units of A that react alike to inputs.

What layers with weights are given and return is watched in both models, on the same inputs. How it
moves under the symmetry group is found as it is for free outputs of a model, so that activations
take the place of weights in the same objective and the same solver: heads and what is in them,
groups and shared blocks are matched as they are there.

Source: Y. Li, J. Yosinski, J. Clune, H. Lipson and J. Hopcroft, "Convergent Learning" (2016), for
correlations; S. Ainsworth, J. Hayase and S. Srinivasa, "Git Re-Basin" (2023), section 3.1.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn

from ..api import analyze
from ..errors import ArchitectureMismatchError, InvalidArgumentError
from ..matching.alignment import Alignment
from ..matching.inner_products import WeightMatching
from ..matching.progress import Callback
from ..matching.schedules import Order, random_order
from ..matching.solve import climbed
from ..models.copying import deep_copy
from ..models.inputs import in_placeholder_order
from ..models.running import cloned, reseed, unobserved
from ..models.validation import check_parameters, check_same_architecture
from ..propagation.constraints import Constraint
from ..propagation.interpreter import propagate
from ..refinement.build import build_symmetry
from ..rules.call import Rule
from ..rules.registry import RuleBook, rule_book
from ..symmetry.group import Symmetry
from ..symmetry.parts import ParameterSymmetry
from ..symmetry.permutation import Permutation
from ..tracing.front_ends import FRONT_ENDS, FrontEnd, trace_by_first

GRAPHS: tuple[FrontEnd, ...] = ("export", "symbolic_trace")
Activations = dict[str, torch.Tensor]
QUIET = 1e-6
"""Units whose deviation is a smaller share of that of the whole tensor do not react."""


def activation_matching(
    model_b: nn.Module,
    *,
    to: nn.Module,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    symmetry: Symmetry | None = None,
    rules: Mapping[Any, str | Rule] | None = None,
    constraints: Sequence[Constraint] = (),
    front_ends: Sequence[FrontEnd] = FRONT_ENDS,
    seed: int = 0,
    max_sweeps: int = 100,
    order: Order = random_order,
    callback: Callback | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Alignment:
    """Find the permutation of model B whose units correlate most with those of model A.

    The objective is a sum over what all layers with weights are given and return: of the
    correlations, over examples and positions, of every unit of A with the unit of B in its place.
    The result may be where :func:`fxrebasin.weight_matching` starts.

    >>> import torch, fxrebasin as fr
    >>> a, b = (torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)) for _ in "ab")
    >>> x = torch.randn(64, 4)
    >>> found = fr.activation_matching(b, to=a, args=(x,), progress=False)
    >>> found.objective_after >= found.objective_before
    True
    >>> closer = fr.weight_matching(
    ...     found.permutation.symmetry, b.state_dict(), to=a.state_dict(),
    ...     start=found.permutation, progress=False,
    ... )

    Args:
        model_b: the model to permute; not changed.
        to: the reference, model A, of the same architecture; not changed.
        args, kwargs: a batch of inputs, some hundred examples of the data that the models are for.
            The activations of both models on it are held in memory.
        symmetry: the group, if :func:`fxrebasin.analyze` has found it already.
        rules, constraints, front_ends: as in :func:`fxrebasin.analyze`. A graph is needed, and
            that of ``export`` is preferred: it shows what happens inside all modules.
        seed, max_sweeps, order, callback: of the solver, as in :func:`fxrebasin.weight_matching`.
        device: where to match; by default where the models are.
        progress: show a progress bar.

    Raises:
        ArchitectureMismatchError: A and B have different parameters, or take different paths.
        InvalidArgumentError: no layer with weights is given or returns a unit that can move.
        InvalidParameterError, TraceError, InvalidInputError: see :func:`fxrebasin.analyze`.
    """
    check_parameters(model_b, "model B")
    check_parameters(to, "the reference model A")
    check_same_architecture(model_b, to)
    given = dict(kwargs or {})
    if symmetry is None:
        symmetry = analyze(
            model_b, args, given, rules=rules, constraints=constraints, front_ends=front_ends
        )
    reacting, states = _reactions(
        model_b, to, args, given, rule_book(rules), constraints, front_ends
    )
    begin = time.perf_counter()
    alignment = climbed(
        WeightMatching(reacting, *states, device=device),
        begin=begin,
        seed=seed,
        max_sweeps=max_sweeps,
        order=order,
        callback=callback,
        progress="activation matching" if progress else None,
    )
    return replace(alignment, permutation=_of_blocks(alignment.permutation, symmetry))


def _reactions(
    model_b: nn.Module,
    model_a: nn.Module,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    rules: RuleBook,
    constraints: Sequence[Constraint],
    front_ends: Sequence[FrontEnd],
) -> tuple[Symmetry, tuple[Activations, Activations]]:
    """A symmetry whose parameters are activations, and those of B and of A, standardised."""
    with_graphs = [f for f in GRAPHS if f in front_ends]
    graphs = [_graph(with_graphs, m, args, kwargs, rules) for m in (model_b, model_a)]
    seen_b, seen_a = (_activations(graph, args, kwargs) for graph in graphs)
    names = _comparable(seen_b, seen_a)
    probe = _returning(graphs[0], names)
    free = range(len(names))
    found = propagate(
        probe, model_b, args, kwargs, rules=rules, constraints=constraints, free_outputs=free
    )
    described = build_symmetry(found)
    moving = [
        ParameterSymmetry((name,), output.shape, False, output.groups)
        for name, output in zip(names, described.outputs, strict=True)
        if output.groups
    ]
    if not moving:
        raise InvalidArgumentError(
            "symmetry: no layer with weights is given or returns any of its units, so that there "
            "are no activations to compare; use fxrebasin.weight_matching"
        )
    of_b, of_a = (
        {p.name: _standardised(seen[p.name], p) for p in moving} for seen in (seen_b, seen_a)
    )
    return replace(described, parameters=tuple(moving), outputs=()), (of_b, of_a)


def _graph(
    front_ends: Sequence[FrontEnd],
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    rules: RuleBook,
) -> fx.GraphModule:
    module = trace_by_first(front_ends, model, args, kwargs, rules)[0].module
    assert isinstance(module, fx.GraphModule)
    return module


class _Watcher(fx.Interpreter):
    """Keeps what layers with weights are given and return."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.watched = _around_layers(module)
        self.seen: Activations = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n in self.watched and isinstance(value, torch.Tensor) and value.is_floating_point():
            self.seen[n.name] = value
        return value


def _around_layers(module: fx.GraphModule) -> set[fx.Node]:
    """The values, computed from the model's inputs, that meet something stored, and the results."""
    stored: set[fx.Node] = set()
    watched: set[fx.Node] = set()
    for node in module.graph.nodes:
        inputs = set(node.all_input_nodes)
        is_layer = node.op == "call_module" and any(
            True for _ in module.get_submodule(str(node.target)).parameters()
        )
        if node.op == "get_attr" or (inputs and inputs <= stored):
            stored.add(node)
        elif is_layer or inputs & stored:
            watched |= {node, *(x for x in inputs - stored if x.op != "placeholder")}
    return watched


def _activations(
    module: fx.GraphModule, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Activations:
    module = deep_copy(module)  # forward may write to buffers
    watcher = _Watcher(module)
    with unobserved(module):
        reseed(module)
        inputs = in_placeholder_order(module, *cloned((tuple(args), dict(kwargs))))
        watcher.run(*inputs, enable_io_processing=False)
    return watcher.seen


def _comparable(b: Activations, a: Activations) -> list[str]:
    """The names of values that both models have, in the same shapes."""
    shapes_b, shapes_a = ({k: tuple(t.shape) for k, t in seen.items()} for seen in (b, a))
    if shapes_b != shapes_a:
        name = next(k for k in {**shapes_b, **shapes_a} if shapes_b.get(k) != shapes_a.get(k))
        raise ArchitectureMismatchError(
            f"the value {name!r} has shape {shapes_b.get(name)} in model B and "
            f"{shapes_a.get(name)} in the reference model A; both must take the same path"
        )
    return list(b)


def _returning(module: fx.GraphModule, names: Sequence[str]) -> fx.GraphModule:
    """A copy of a graph that returns some of its values before what it returns."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    returned = graph.graph_copy(module.graph, copies)
    by_name = {node.name: copy for node, copy in copies.items()}
    graph.output(([by_name[name] for name in names], returned))
    graph.set_codegen(module.graph._codegen)
    return fx.GraphModule(module, graph)


def _standardised(value: torch.Tensor, symmetry: ParameterSymmetry) -> torch.Tensor:
    """Every unit with mean 0 and, over all examples and positions, norm 1; 0 if it is quiet."""
    units = {axis for group in symmetry.groups for axis in group.axes}
    samples = [d for d in range(value.ndim) if d not in units]
    value = value.detach().float() if value.dtype.itemsize < 4 else value.detach()
    if not samples:
        return value / value.norm().clamp(min=torch.finfo(value.dtype).tiny)
    centred = value - value.mean(samples, keepdim=True)
    deviation = centred.square().mean(samples, keepdim=True).sqrt()
    is_quiet = deviation <= QUIET * deviation.square().mean().sqrt()
    count = math.prod(value.shape[d] for d in samples)
    return (centred / (deviation * count**0.5)).masked_fill(is_quiet, 0.0)


def _of_blocks(permutation: Permutation, symmetry: Symmetry) -> Permutation:
    """The same permutation of the blocks of another symmetry; those that differ stay."""
    kept = {
        block.name: permutation.indices[block.name]
        for block in symmetry
        if (found := permutation.symmetry.blocks.get(block.name)) is not None
        and (found.size, found.count, found.parent) == (block.size, block.count, block.parent)
        and found.axes[: len(block.axes)] == block.axes  # those of activations come last
    }
    return Permutation(symmetry, {**symmetry.identity().indices, **kept})
