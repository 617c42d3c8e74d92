"""The one-call interface to what is done with a single model: make it smaller, put it in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from .compaction.ordering import Key
from .models.rebased import META, RebasedModule
from .models.surroundings import neutral
from .models.validation import check_model, reading_once
from .passes.base import Pass
from .passes.compact import Compact
from .passes.order import Order
from .passes.pipeline import adopt_symmetry, passes_to_analyze, run_passes
from .passes.report import Aligned, attach
from .passes.rewrite import Rewrite
from .passes.state import state_of
from .passes.verify import Verify
from .propagation.constraints import Constraint
from .rules.call import Rule
from .symmetry.group import Symmetry
from .tracing.front_ends import FRONT_ENDS, FrontEnd


@neutral()
def compact(
    model: nn.Module,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    symmetry: Symmetry | None = None,
    rules: Mapping[Any, str | Rule] | None = None,
    constraints: Sequence[Constraint] = (),
    front_ends: Sequence[FrontEnd] = FRONT_ENDS,
) -> RebasedModule:
    """Cut out the units that a model does not need: same function, smaller tensors.

    Units that nothing reads, as all weights that do are zero, are cut out of every tensor of their
    block. So are those that are constant, as all weights that feed them are zero; what they add to
    the layers that read them goes into the biases of these, where that is exact. Heads and groups
    go where every feature in them can; of features inside of heads as many go as every head can do
    without. The constants of the graph, such as the sizes of views, become what they have to be.

    Weights of zeros only say what to try. What is cut has to make no difference: on inputs of
    random numbers, and with other values of all weights that are left. A unit that LayerNorm takes
    the mean over, or that a padded convolution reads as a constant, stays.

    >>> import torch, fxrebasin as fr
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> _ = net[0].weight.data[:3].zero_()  # as torch.nn.utils.prune.ln_structured leaves it
    >>> _ = net[0].bias.data[:3].fill_(0.5)
    >>> x = torch.randn(16, 4)
    >>> smaller = fr.compact(net, args=(x,))
    >>> smaller.get_submodule("2"), smaller.report.folded
    (Linear(in_features=5, out_features=2, bias=True), ('2.bias',))
    >>> torch.allclose(smaller(x), net(x), atol=1e-6)
    True

    Args:
        model: any module, trained with zeros that are in its weights: call
            ``torch.nn.utils.prune.remove`` first, if masks are still apart. It is not changed.
        args, kwargs: example inputs.
        symmetry: the group, if :func:`fxrebasin.analyze` has found it already; only its blocks are
            cut.
        rules, constraints, front_ends: as in :func:`fxrebasin.analyze`. A graph of ``export`` shows
            what happens inside of modules such as ``nn.MultiheadAttention``, whose heads cannot be
            cut otherwise; it holds for the shapes of the example inputs.

    Returns:
        A ``GraphModule`` with the state dict keys of ``model``, verified against ``model``.
        ``result.report`` says what was cut, and which units stay though zeros lead to them, and
        why. Where no front end gives a graph, nothing is cut: it is a copy of ``model``.

    Raises:
        ArchitectureMismatchError: the symmetry is that of another model.
        VerificationError: the graph does not compute what the model computes.
        InvalidParameterError, TraceError, InvalidInputError: see :func:`fxrebasin.analyze`.
    """
    check_model(model, "model")
    found = _find(model, args, kwargs, symmetry, rules, constraints, front_ends)
    smaller: Any = run_passes([Compact()], found)
    state = state_of(smaller, "emitted")
    assert state.compaction is not None
    report = replace(state.compaction, seconds=dict(state.seconds))
    if isinstance(smaller, RebasedModule):
        smaller.meta[META] = report
    else:
        vars(smaller).pop(META)
        smaller.report = report
    result: RebasedModule = smaller
    return result


@neutral()
def order(
    model: nn.Module,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    key: Key | None = None,
    symmetry: Symmetry | None = None,
    rules: Mapping[Any, str | Rule] | None = None,
    constraints: Sequence[Constraint] = (),
    front_ends: Sequence[FrontEnd] = FRONT_ENDS,
) -> Aligned:
    """Put the units of every block in order, greatest first: same function, other places.

    For quantisation in groups of neighbours, which then are alike; for truncation, as what matters
    least comes last; for reading.

    >>> import torch, fxrebasin as fr
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> x = torch.randn(16, 4)
    >>> ordered = fr.order(net, args=(x,), key=fr.UnitWeights.read_norm)
    >>> norms = ordered.get_submodule("2").weight.norm(dim=0)
    >>> bool((norms.diff() <= 0).all()), torch.allclose(ordered(x), net(x), atol=1e-6)
    (True, True)

    Args:
        model: any module; not changed.
        args, kwargs: example inputs.
        key: what to sort by: a function from the :class:`fxrebasin.UnitWeights` of a block to a
            number per unit, as a tensor, an array or a list. By default the norm of what writes a
            unit, :meth:`fxrebasin.UnitWeights.written_norm`. Heads are sorted as wholes, and their
            features inside of each.
        symmetry: the group, if :func:`fxrebasin.analyze` has found it already.
        rules, constraints, front_ends: as in :func:`fxrebasin.analyze`.

    Returns:
        A ``GraphModule`` with the state dict keys of ``model``, verified against ``model``; a copy
        of ``model`` where no front end gives a graph. ``result.report.permutation`` says which
        unit went where.

    Raises:
        InvalidArgumentError: the key gives something else than a number per unit.
        ArchitectureMismatchError: the symmetry is that of another model.
        VerificationError: the result does not compute what the model computes.
        InvalidParameterError, TraceError, InvalidInputError: see :func:`fxrebasin.analyze`.
    """
    check_model(model, "model")
    steps: list[Pass] = [Order(key), Rewrite(), Verify()]
    found = _find(model, args, kwargs, symmetry, rules, constraints, front_ends)
    emitted = run_passes(steps, found)
    return attach(state_of(emitted, "alignment").report(), emitted)


def _find(
    model: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any] | None,
    symmetry: Symmetry | None,
    rules: Mapping[Any, str | Rule] | None,
    constraints: Sequence[Constraint],
    front_ends: Sequence[FrontEnd],
) -> nn.Module:
    """A traced model with its symmetry, found or given."""
    with reading_once():
        if symmetry is None:
            steps = passes_to_analyze(
                args, kwargs, rules=rules, constraints=constraints, front_ends=front_ends
            )
            return run_passes(steps, model)
        return adopt_symmetry(symmetry, model, args, kwargs, rules=rules, front_ends=front_ends)
