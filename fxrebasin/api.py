"""The one-call interface: the passes, composed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload

import torch
from torch import nn

from .arguments import check_device, check_flag, check_function, check_whole, refuse
from .canonical.canonicalise import write_
from .matching.alignment import Alignment, check_alignment, check_products
from .matching.progress import Callback
from .matching.solvers import Solver, coordinate_descent
from .matching.transforms.groups import check_group
from .merging.alignments import examples_of
from .merging.many import many
from .merging.measuring import Evaluate, check_data
from .merging.merge import REPAIRS, Choose, Merging, Repair, merge_models, merge_states
from .merging.merge_report import MergedModule
from .merging.merged import Merged
from .merging.parents import Parent, gather_parents
from .merging.protocol import MergeMethod
from .models.rebased import RebasedModule, emit
from .models.surroundings import neutral
from .models.validation import (
    check_inputs,
    check_model,
    check_parameters,
    check_same_architecture,
    check_state_dict,
    reading_once,
    stored_tensors,
)
from .objectives import Objective, activations, weights
from .passes.pipeline import adopt_symmetry, passes_to_align, passes_to_analyze, run_passes
from .passes.report import Aligned, attach
from .passes.solve import Solve
from .passes.state import as_examples, state_of
from .propagation.constraints import Constraint
from .propagation.movable import Movable
from .rules.call import Rule
from .symmetry.aliases import check_apart
from .symmetry.group import Symmetry, check_symmetry
from .symmetry.transform import Subgroup, Transform
from .tracing.front_ends import FRONT_ENDS, FrontEnd
from .tracing.lifted import Parameters


@neutral()
def analyze(
    model: nn.Module | torch.export.ExportedProgram,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    rules: Mapping[Any, str | Rule] | None = None,
    constraints: Sequence[Constraint] = (),
    free_outputs: bool = False,
    check: bool = True,
    front_ends: Sequence[FrontEnd] = FRONT_ENDS,
    examples: Sequence[Any] = (),
    movable: Movable = (),
    parameters: Parameters | None = None,
) -> Symmetry:
    """Find every permutation of hidden units that leaves a model's function unchanged.

    The model is traced and run once on the example inputs, in eval mode, on a copy that shares
    its parameters; its own mode, hooks, caches and the random state stay as they are. What is not
    understood is pinned, never guessed; ``symmetry.pinned`` says what and why. Then the group is
    put to the test: generators of it are applied to a copy with random weights, and blocks whose
    permutations change an output are pinned with a warning.

    >>> import torch, fxrebasin as fr
    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> fr.analyze(net, args=(torch.zeros(1, 4),))
    Symmetry(1 blocks, 8 movable units, log_order 10.6, coverage 96.6%)

    Args:
        model: any module, a ``GraphModule`` or an ``ExportedProgram``.
        args, kwargs: example inputs; only their shapes matter, unless control flow depends on
            their values. A batch of one is enough.
        rules: rules for this call only, as in :func:`fxrebasin.register_rule`: from an op,
            function, method or module type to a signature or a function on layouts.
        constraints: axes to keep in place or to move together: :func:`fxrebasin.pin`,
            :func:`fxrebasin.tie`.
        free_outputs: let the features of the outputs move too, as those of an encoder may;
            ``symmetry.outputs`` says how.
        check: put the group to the test; three or four forward passes.
        front_ends: which to try, in order. ``symmetry.front_end`` says which was used.
        examples: more inputs, of other lengths, sizes or options, each a tuple of arguments or
            ``(arguments, keywords)``; the group holds for all. The first stands for ``args``
            where these are left out.
        movable: the persistent buffers that belong to units, and move and count like parameters: a
            codebook, random projections, a slope per head, a mask. A name, a pattern of names as
            in ``fnmatch``, several of these, or a function of name and buffer. Other buffers are
            constants, which keep in place what meets them, as ``symmetry.explain`` says; only
            running statistics and the masks of ``torch.nn.utils.prune`` move by themselves.
        parameters: for a ``GraphModule`` whose weights are inputs, as Dynamo's, which of them are:
            the model that they belong to, or a dict from names or positions of inputs to names
            (the tensors are then among ``args``) or to tensors.

    Raises:
        InvalidArgumentError: an option makes no sense, or names no buffer that can move.
        InvalidParameterError: a parameter is not finite, not dense, on the meta device, ...
        TraceError: no front end can trace the model.
        InvalidInputError: the model does not run on the example inputs.

    Warns:
        RefutedWarning: blocks failed the test; please report the model.
        UntouchedWarning: parameters are not used on the inputs; ``symmetry.untouched`` names them.
    """
    check_inputs(args, kwargs)
    several = as_examples(examples)
    if several and not args and not kwargs:
        (args, kwargs), several = several[0], several[1:]
    passes = passes_to_analyze(
        args,
        kwargs,
        rules=rules,
        constraints=constraints,
        free_outputs=free_outputs,
        check=check,
        front_ends=front_ends,
        examples=several,
        movable=movable,
        parameters=parameters,
    )
    symmetry = state_of(run_passes(passes, model), "symmetry").symmetry
    assert symmetry is not None
    return symmetry


@neutral()
def match(
    symmetry: Symmetry,
    state_dict: Mapping[str, torch.Tensor],
    *,
    to: Mapping[str, torch.Tensor],
    objective: Objective = weights,
    solver: Solver = coordinate_descent,
    group: Subgroup = "signed",
    start: Transform | None = None,
    seed: int = 0,
    callback: Callback | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Transform:
    """The permutation of one state dict that brings it closest to another; nothing is mutated.

    Where units may change their signs, as with tanh or sine between layers, in recurrent networks
    and wherever else :attr:`fxrebasin.Symmetry.kinds` says so, signs are found as well.

    >>> import torch, fxrebasin as fr
    >>> a, b = (torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)) for _ in "ab")
    >>> symmetry = fr.analyze(b, args=(torch.zeros(1, 4),))
    >>> found = fr.match(symmetry, b.state_dict(), to=a.state_dict(), progress=False)
    >>> aligned = b.load_state_dict(found.apply(b.state_dict()))

    Args:
        symmetry: the group, as found by :func:`analyze`.
        state_dict: the weights of B; not changed.
        to: the weights of A; not changed.
        objective: what is compared, a function like :func:`fxrebasin.objectives.weights`; its
            options are given by ``functools.partial``.
        solver: how it is maximised, a function like
            :func:`fxrebasin.solvers.coordinate_descent`; its options likewise.
        group: what is searched: ``"permutations"`` alone; ``"signed"``: and signs, which keep
            weights exact in every dtype; ``"linear"``: and rotations, of state dicts that
            :func:`fxrebasin.canonicalise` has prepared.
        start, seed, callback, progress: of the solver; see :class:`fxrebasin.solvers.Solver`.
        device: where to compute; by default where A is.

    Returns:
        A :class:`fxrebasin.Permutation`, or, where signs change or units are mixed, a
        :class:`fxrebasin.Transform`.

    Raises:
        InvalidArgumentError: a state dict is none, or an option makes no sense.
        ArchitectureMismatchError, InvalidParameterError: see :func:`fxrebasin.objectives.weights`.

    :func:`fxrebasin.weight_matching` also returns how the objective rose.
    """
    check_symmetry(symmetry)
    check_function(objective, "objective", "fr.objectives.weights")
    check_function(solver, "solver", "fr.solvers.coordinate_descent")
    check_state_dict(state_dict, "state_dict")
    check_state_dict(to, "to")
    check_device(device)
    check_group(group)
    compared = objective(symmetry, state_dict, to, device=device)
    check_products(compared)
    compared = compared.over(group)
    found = solver(compared, start=start, seed=seed, callback=callback, progress=progress)
    check_alignment(found)
    return found.permutation


@neutral()
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
    solver: Solver = coordinate_descent,
    group: Subgroup = "signed",
    seed: int = 0,
    callback: Callback | None = None,
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
        solver: how the objective is maximised, as in :func:`match`.
        group: what is searched, as in :func:`match`. Rotations are of models that
            :func:`fxrebasin.canonicalise` has prepared.
        seed, callback, progress: of the solver; see :class:`fxrebasin.solvers.Solver`.

    Raises:
        ArchitectureMismatchError: A and B have different parameters, or take different paths.
        InvalidArgumentError: no layer with weights is given or returns a unit that can move.
        InvalidParameterError, TraceError, InvalidInputError: see :func:`fxrebasin.analyze`.

    Warns:
        UnmatchedBlocksWarning: blocks of the symmetry are not found again in the activations.
    """
    check_inputs(args, kwargs)
    check_function(solver, "solver", "fr.solvers.coordinate_descent")
    check_parameters(model_b, "model B")
    check_parameters(to, "the reference model A")
    check_same_architecture(model_b, to)
    if symmetry is None:
        symmetry = analyze(
            model_b, args, kwargs, rules=rules, constraints=constraints, front_ends=front_ends
        )
    objective = activations(
        symmetry,
        model_b,
        to,
        args,
        kwargs,
        rules=rules,
        constraints=constraints,
        front_ends=front_ends,
        group=group,
    )
    found = solver(objective, seed=seed, callback=callback, progress=progress)
    check_alignment(found)
    return found


@neutral()
def rebasin(
    model_b: nn.Module,
    *,
    to: nn.Module,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    symmetry: Symmetry | None = None,
    objective: Objective = weights,
    solver: Solver = coordinate_descent,
    group: Subgroup = "signed",
    start: Transform | None = None,
    seed: int = 0,
    callback: Callback | None = None,
    inplace: bool = False,
    progress: bool = True,
) -> Aligned:
    """Bring model B into the basin of model A: same function as B, weights aligned with A's.

    Permutations, and signs where units have them, leave weights what they are, up to their places.
    In transformers, rotations of the residual stream bring far more: with ``group="linear"`` both
    models are first given canonical weights (:func:`fxrebasin.canonicalise`), and streams are
    rotated by what both models compute, if ``args`` are a batch of 32 examples or more, else by
    weights. Interpolate between the result and ``result.report.reference`` then, not A as it was.

    >>> import torch, fxrebasin as fr
    >>> a, b = (torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)) for _ in "ab")
    >>> x = torch.randn(3, 4)
    >>> aligned = fr.rebasin(b, to=a, args=(x,), progress=False)
    >>> torch.allclose(aligned(x), b(x), atol=1e-5)
    True

    Args:
        model_b: the model to permute; unchanged unless ``inplace``.
        to: the reference, model A, of the same architecture; never changed.
        args, kwargs: example inputs for both analysis and verification.
        symmetry: the group of B, where :func:`analyze` has found it already, as with rules,
            constraints, movable buffers or free outputs; by default it is found as
            ``analyze(model_b, args)`` does.
        objective, solver, group, start, seed, callback: as in :func:`match`.
        inplace: permute the tensors of ``model_b`` itself; the result shares them.
        progress: show a progress bar.

    Returns:
        A ``GraphModule`` with the state dict keys of ``model_b``, in its order, verified against
        ``model_b`` run eagerly. ``result.report`` holds symmetry, permutation, objective before
        and after, sweeps and times, and, with ``group="linear"``, ``reference``: model A, of its
        own class and with the same function, with the weights that B is aligned with. Where no
        front end gives a graph, it is a copy of ``model_b`` (or, if ``inplace``, the model itself)
        with the same ``report`` attribute.

    Raises:
        ArchitectureMismatchError: A and B have different parameters, or the symmetry others.
        VerificationError: the result does not compute what B computes; nothing was changed.
        InvalidArgumentError: ``inplace``, and B shares memory with A; nothing was changed.
        InvalidParameterError, TraceError, InvalidInputError: see :func:`analyze`.
    """
    check_model(model_b, "model_b")
    check_flag(inplace, "inplace")
    solve = Solve(
        to=to,
        objective=objective,
        solver=solver,
        group=group,
        start=start,
        seed=seed,
        callback=callback,
        progress=progress,
    )
    with reading_once():
        if symmetry is None:
            found = run_passes(passes_to_analyze(args, kwargs, reference=to), model_b)
        else:
            found = adopt_symmetry(symmetry, model_b, args, kwargs, reference=to)
        emitted = run_passes(passes_to_align(solve), found)
    state = state_of(emitted, "alignment")
    if inplace:
        assert state.alignment is not None
        permutation = state.alignment.permutation
        moving = {n for p in permutation.symmetry.parameters if p.groups for n in p.names}
        check_apart(stored_tensors(model_b), stored_tensors(to), moving)
        if state.gauge is None:
            permutation.apply_(model_b)
        else:
            write_(permutation.symmetry, model_b, permutation.apply(stored_tensors(state.source)))
        emitted = emit(model_b, emitted) if isinstance(emitted, RebasedModule) else model_b
    return attach(state.report(), emitted)


@overload
def merge(  # type: ignore[overload-overlap]  # a list of state dicts is one of parents as well
    models: Sequence[Mapping[str, torch.Tensor] | str | os.PathLike[str]],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    symmetry: Symmetry,
    data: Iterable[Any] | None = None,
    weights: Sequence[float] | None = None,
    method: MergeMethod = many,
    objective: Objective = weights,
    repair: Repair = "auto",
    evaluate: Evaluate | None = None,
    choose: Choose | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Merged: ...


@overload
def merge(
    models: Sequence[Parent],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    symmetry: Symmetry | None = None,
    data: Iterable[Any] | None = None,
    weights: Sequence[float] | None = None,
    method: MergeMethod = many,
    objective: Objective = weights,
    repair: Repair = "auto",
    evaluate: Evaluate | None = None,
    choose: Choose | None = None,
    seed: int = 0,
    progress: bool = True,
) -> MergedModule: ...


@neutral()
def merge(
    models: Sequence[Parent],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    symmetry: Symmetry | None = None,
    data: Iterable[Any] | None = None,
    weights: Sequence[float] | None = None,
    method: MergeMethod = many,
    objective: Objective = weights,
    repair: Repair = "auto",
    evaluate: Evaluate | None = None,
    choose: Choose | None = None,
    seed: int = 0,
    progress: bool = True,
) -> MergedModule | Merged:
    """Make one model of several: find their symmetry, align, average, repair.

    >>> import torch, fxrebasin as fr
    >>> nets = [
    ...     torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
    ...     for _ in "abc"
    ... ]
    >>> x = torch.randn(64, 4)
    >>> merged = fr.merge(nets, args=(x,), data=[x], progress=False)
    >>> type(merged), merged(x).shape
    (<class 'torch.nn.modules.container.Sequential'>, torch.Size([64, 2]))
    >>> merged.report.permutations[0]
    Permutation(0 of 16 units moved)

    Args:
        models: two or more of one architecture: modules, state dicts, or paths of checkpoints, as
            :func:`fxrebasin.open_checkpoint` reads them, one tensor at a time. None is changed.
            The first module among them says what the model is; the result is in the frame of the
            first model, and has its keys and dtypes.
        args, kwargs: example inputs; by default the first batch of ``data``.
        symmetry: the group, if :func:`analyze` has found it already.
        data: batches that repair is measured on, and activations compared: as in
            :func:`fxrebasin.repair`. Without it, weights are all that is used.
        weights: how much each model counts; by default all count alike.
        method: how more than one permutation is found together, one of
            :mod:`fxrebasin.merge_methods`; options, a solver among them, by
            ``functools.partial``.
        objective: what the method compares, as in :func:`match`.
        repair: ``"repair"``, ``"rescale"`` or ``"reshift"``, as in :func:`fxrebasin.repair`;
            ``"batch_norm"`` measures the statistics of BatchNorm afresh and no more; ``"none"``.
            ``"auto"`` is ``"repair"`` where there are ``data``; with ``evaluate``, whatever is best
            of ``"repair"``, ``"rescale"`` and BatchNorm alone.
        evaluate: takes a model and returns its loss, or a mapping from names to numbers with
            ``"loss"`` among them. The report then says what each step was worth.
        choose: ``min`` or ``max``: align in several ways, as the method does, by activations, by
            weights from where these lead, and not at all, and keep what has the least or greatest
            loss. A higher objective is not always a better merged model.
        seed: of the method and its solver.
        progress: show progress bars.

    Returns:
        A module of the class of the first module, in evaluation mode, with a
        :class:`~fxrebasin.MergeReport` as ``result.report``. Where there are only state dicts or
        paths, and a ``symmetry``: a :class:`~fxrebasin.Merged`, with a state dict.

        That every permuted parent computes what the parent does is verified. Memory: the copies
        that statistics are measured on, one for each parent, while there are ``data``; else that of
        the method.

    Raises:
        InvalidArgumentError: an option makes no sense, or there is no module to analyse.
        ArchitectureMismatchError: the models have other tensors than the first, or the symmetry.
        VerificationError: a permuted parent computes something else, or the result nothing finite.
        FileFormatError, OSError: a checkpoint cannot be read.
        InvalidParameterError, TraceError, InvalidInputError: see :func:`analyze`.

    Source:
        Ainsworth et al., Git Re-Basin, ICLR 2023; Jordan et al., REPAIR, ICLR 2023. That several
        ways are tried, and an evaluation decides, is ours.
    """
    check_inputs(args, kwargs)
    parents = gather_parents(models)
    check_data(data, "data")
    check_function(method, "method", "fr.merge_methods.many")
    check_function(objective, "objective", "fr.objectives.weights")
    if not isinstance(repair, str) or repair not in REPAIRS:
        refuse("repair", f"one of {', '.join(map(repr, REPAIRS))}", repair)
    check_whole(seed, "seed", least=0)
    check_flag(progress, "progress")
    if evaluate is not None:
        check_function(evaluate, "evaluate", "one that takes a model and returns its loss")
    if choose is not None and not (evaluate is not None and (choose is min or choose is max)):
        refuse("choose", "min or max, of the loss that evaluate= returns", choose)
    if data is None and repair not in ("auto", "none"):
        refuse("repair", "'auto' or 'none' where there are no data", repair, "give data=, batches")
    if data is not None and not args and not kwargs and parents.template is not None:
        args, kwargs = examples_of(data, parents.device, least=1)
    if symmetry is None:
        if parents.template is None:
            advice = "give a module as well, or symmetry=, as fxrebasin.analyze found it"
            refuse("models", "a module among them, which can be analysed", models, advice)
        symmetry = analyze(parents.template, args, kwargs)
    check_symmetry(symmetry)
    given = Merging(
        parents=parents,
        symmetry=symmetry,
        args=args,
        kwargs=kwargs or {},
        data=data,
        weights=weights,
        method=method,
        objective=objective,
        repair=repair,
        evaluate=evaluate,
        choose=choose,
        seed=seed,
        progress=progress,
    )
    if parents.template is not None:
        return merge_models(given)
    for name, option in (("data", data), ("evaluate", evaluate)):
        if option is not None:
            refuse(name, "None where all models are state dicts", option, "give a module as well")
    return merge_states(given)
