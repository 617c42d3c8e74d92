"""One permutation per set of weights, whatever graphs take them."""

from __future__ import annotations

import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx, nn

from ..api import analyze
from ..errors import InvalidArgumentError, VerificationError
from ..matching.alignment import Alignment, check_alignment, check_products
from ..matching.solvers import Solver
from ..models.copying import deep_copy
from ..models.running import run
from ..models.state import is_equal
from ..models.validation import check_same_tensors, stored_tensors
from ..objectives import Objective
from ..symmetry.group import Symmetry
from ..tracing.lifted import bind
from ..verification.verify import Verification, verify
from .live import Cache, LiveWeights
from .placeholders import as_number, name_weights
from .report import GraphReport


@dataclass(frozen=True, eq=False)
class Setup:
    """What to align with, and how."""

    reference: Mapping[str, torch.Tensor]
    model: nn.Module | None
    symmetry: Symmetry | None
    objective: Objective
    solver: Solver
    seed: int


@dataclass(eq=False)
class _Aligned:
    """Weights, and the permutation that was found for them."""

    weights: dict[str, weakref.ref[torch.Tensor]]
    report: GraphReport
    cache: Cache = field(default_factory=Cache)

    def holds_for(self, weights: Mapping[str, torch.Tensor]) -> bool:
        """Are these the same tensors, and all that move among them? Graphs of other modes may have
        other buffers."""
        moving = {p.name for p in self.report.symmetry.parameters if p.groups}
        known = {name: there() for name, there in self.weights.items()}
        return moving <= weights.keys() and all(
            known[n] is t if n in known else not isinstance(t, nn.Parameter)
            for n, t in weights.items()
        )


class Aligner:
    """Finds a permutation for the weights of every graph; the same weights are solved for once."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._found: list[_Aligned] = []

    def align(self, graph_module: fx.GraphModule, inputs: Sequence[Any]) -> LiveWeights | None:
        """The permuted weights for a captured graph, verified on its inputs; none if it has none.

        Raises:
            InvalidArgumentError: a parameter among the inputs is unknown to the reference.
            ArchitectureMismatchError: it has another shape there.
            VerificationError: the permuted graph does not compute the same.
        """
        setup = self.setup
        names = name_weights(graph_module, inputs, setup.model, setup.reference)
        if not names:
            return None
        shown = [as_number(x) for x in inputs]
        module, args = bind(graph_module, shown, names)
        weights = stored_tensors(module)
        compared = {name: setup.reference[name] for name in weights}
        check_same_tensors(weights, compared, named=("the compiled model", "the reference"))
        aligned = self._find(module, args, weights)
        written = _written(module, args)
        places = {k for k, name in names.items() if name in written}
        return LiveWeights(aligned.report.permutation, names, inputs, places, aligned.cache)

    def reports(self, tensors: Collection[int] | None = None) -> Iterator[GraphReport]:
        """What was found; for some tensors only, by identity, if these are given."""
        for aligned in self._found:
            owned = (id(t()) for t in aligned.weights.values() if t() is not None)
            if tensors is None or any(one in tensors for one in owned):
                yield aligned.report

    def _find(
        self, module: fx.GraphModule, args: Sequence[Any], weights: Mapping[str, torch.Tensor]
    ) -> _Aligned:
        for known in self._found:
            if known.holds_for(weights):
                try:
                    verification = _verify(module, args, known.report.alignment)
                except VerificationError:
                    continue  # in training, say, where dropout tells units apart
                graphs = known.report.graphs + 1
                known.report = replace(known.report, verification=verification, graphs=graphs)
                return known
        alignment = self._solve(module, args, weights)
        report = GraphReport(alignment, _verify(module, args, alignment))
        known = _Aligned({n: weakref.ref(t) for n, t in weights.items()}, report)
        self._found.append(known)
        return known

    def _solve(
        self, module: fx.GraphModule, args: Sequence[Any], weights: Mapping[str, torch.Tensor]
    ) -> Alignment:
        setup = self.setup
        symmetry = analyze(module, args) if setup.symmetry is None else setup.symmetry
        missing = [p.name for p in symmetry.parameters if p.groups and p.name not in weights]
        if missing:
            raise InvalidArgumentError(
                f"symmetry: {missing[0]!r} moves, and is none of the {len(weights)} weights of the "
                "captured graph; the model has graph breaks: leave symmetry= out, and each graph "
                "is analysed for itself"
            )
        products = setup.objective(symmetry, weights, setup.reference)
        check_products(products)
        found = setup.solver(products, seed=setup.seed, progress=False)
        check_alignment(found)
        return found


def _verify(module: fx.GraphModule, args: Sequence[Any], alignment: Alignment) -> Verification:
    moved = deep_copy(module)
    stored = stored_tensors(moved)
    with torch.no_grad():
        for name, tensor in alignment.permutation.apply(stored).items():
            if tensor is not stored[name]:
                stored[name].copy_(tensor)
    return verify(module, moved, args)


def _written(module: fx.GraphModule, args: Sequence[Any]) -> set[str]:
    """The stored tensors that a graph writes to, seen by running a copy of it."""
    tried = deep_copy(module)
    stored = {name: tensor.detach() for name, tensor in stored_tensors(tried).items()}
    before = {name: tensor.clone() for name, tensor in stored.items()}
    run(tried, args, {})
    return {name for name, tensor in stored.items() if not is_equal(tensor, before[name])}
