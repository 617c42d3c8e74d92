"""REPAIR: give the units of a merged network the statistics that they have in its parents.

The mean of two networks computes less than either: where the units of the two are not perfectly
correlated, the variance of their mean is smaller than the mean of their variances, and the loss
multiplies from layer to layer, until deep layers hardly depend on the input. Scaling and shifting
every channel undoes that, and goes into the weights that are there anyway.

Source: Jordan, Sedghi, Saukh, Entezari and Neyshabur, "REPAIR: REnormalizing Permuted Activations
for Interpolation Repair", ICLR 2023.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from tqdm.auto import tqdm

from ..arguments import check_flag, check_shares, refuse
from ..errors import ArchitectureMismatchError, InvalidParameterError, TraceError
from ..models.copying import deep_copy
from ..models.surroundings import neutral
from ..models.validation import check_model, check_parameters
from .batch_norm import measure_batch_norm, tracked_layers
from .batches import Batches, Inputs
from .correcting import METHODS, Correcting, Goal, Measuring, Method, goal_of, is_alive
from .folding import fold, fold_statistics, names_written, overwrite, stored_goal
from .moments import Moments
from .places import Found, Place
from .report import RepairReport, attach, repaired
from .watching import Subject

ModuleT = TypeVar("ModuleT", bound=nn.Module)


@neutral()
def repair(
    model: ModuleT,
    *,
    like: Sequence[nn.Module],
    data: Iterable[Any],
    weights: Sequence[float] | None = None,
    method: Method = "repair",
    sequential: bool = False,
    batches: int | None = None,
    inputs: Inputs | None = None,
    inplace: bool = False,
    progress: bool = True,
) -> ModuleT:
    """Give every layer of a merged model the statistics that it has in its parents.

    The result of every linear layer and convolution, per channel over examples and positions, gets
    the weighted mean of the parents' means and the weighted mean of their standard deviations, and
    the statistics of BatchNorm layers are measured afresh. What that takes goes into weights,
    biases and running statistics: the keys of the state dict stay what they are. Where to do so is
    found on the graph of the model, also inside of attention. Left alone are layers before
    BatchNorm, which corrects them, layers whose result the model returns, weights that have other
    uses as well, and channels that are constant in the model or in all parents.

    >>> import torch, fxrebasin as fr
    >>> nets = [
    ...     torch.nn.Sequential(torch.nn.Linear(4, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2))
    ...     for _ in "abm"
    ... ]
    >>> for a, b, merged in zip(*(net.parameters() for net in nets)):
    ...     merged.data = (a.data + b.data) / 2
    >>> data = [torch.randn(64, 4) for _ in range(4)]
    >>> repaired = fr.repair(nets[2], like=nets[:2], data=data, progress=False)
    >>> repaired.repair_report
    RepairReport(repair, 1 places, 32 channels)
    >>> first = repaired.repair_report["0"]
    >>> f"{first.std_before:.1f} -> {first.std_after:.3f} of the goal"
    '0.7 -> 1.000 of the goal'

    Args:
        model: what was merged, or pruned, or rounded; not changed unless ``inplace``.
        like: the parents, already aligned, whose statistics are the goals; for a pruned model the
            one that it was. They may be of other classes, and store their weights otherwise, as
            long as their layers go by the same names. Never changed; measured one after the other.
        data: yields batches: input tensors, tuples or lists that begin with one, or mappings of
            keyword arguments. It is read several times: give a list or a ``DataLoader``. One that
            shuffles gives the same order each time, as torch's random state is put back. Positions
            that are only padding count like all others.
        weights: of the parents in the goals, at least 0, divided by their sum; None is equal ones.
        method: ``"repair"`` corrects mean and standard deviation, ``"rescale"`` multiplies only
            (the mean is scaled along), ``"reshift"`` adds only.
        sequential: correct layer after layer, each with the statistics of all data after all
            layers before it are corrected: exact, and one pass per layer. By default all are
            corrected in one pass, in which every batch is corrected on its way: exact for one
            batch, and close for several.
        batches: how many batches to use; None is all of them.
        inputs: makes a tuple of positional arguments of a batch: ``tuple``, where all of it is.
        inplace: write into ``model`` and return it, instead of a deep copy; where anything fails,
            it is left as it was.
        progress: show a progress bar if the standard error is a terminal.

    Returns:
        The model with corrected weights; ``result.repair_report`` is a
        :class:`~fxrebasin.RepairReport`. Where there is no graph of the model, only BatchNorm is
        measured, and the report says why. A layer without a bias gets the scale that comes nearest
        to both goals, unless a linear layer takes the shift; so do networks whose only biases are
        scalars, as those of Fixup. Two branches that are added are corrected in both
        layers that feed the sum; where another layer reads one of them as well, as in most
        residual networks, the sum is left as the branches make it, and the report says so.
        Statistics of a module that is called several times are pooled; one that is called on what
        it has computed itself may not reach its goal, as correcting it changes what it is given.

    Raises:
        ArchitectureMismatchError: a parent has other layers.
        InvalidArgumentError: an option makes no sense, or the data yields nothing.
        InvalidInputError: a model does not run on the data.
        InvalidParameterError: weights are not finite, on the meta device, quantised, or sparse.

    Source:
        Jordan et al., REPAIR, ICLR 2023, section 3; for RESCALE and RESHIFT, and layer after
        layer: Qu and Horvath, Rethink Model Re-Basin and the Linear Mode Connectivity,
        arXiv:2402.05966. Means of standard deviations, as there, not of variances.
    """
    check_plain(model, "model")
    parents = check_parents(like, "like")
    shares = check_shares(weights, len(parents))
    read = Batches(data, batches, inputs)
    if not isinstance(method, str) or method not in METHODS:
        refuse("method", " or ".join(map(repr, METHODS)), method)
    for flag, name in ((sequential, "sequential"), (inplace, "inplace"), (progress, "progress")):
        check_flag(flag, name)
    working = deep_copy(model)
    subject = Subject(working, read)
    try:
        found = subject.find()
    except TraceError as error:
        reason = str(error).splitlines()[0]
        report = _without_graph(working, read, method, sequential, reason)
        return attach(report, _written_to(model, working, None) if inplace else working)
    passes = _Passes(subject, found, progress=progress, count=len(parents) + 3)
    with passes.bar:
        goals = passes.goals(parents, shares)
        before = passes.measure(subject)
        if sequential:
            passes.correct_in_turn(goals, method)
        else:
            passes.correct_at_once(goals, method)
        after = passes.measure(subject)
    report = passes.report(before, after, goals, method, sequential)
    names = names_written(found.places)
    return attach(report, _written_to(model, working, names) if inplace else working)


def check_parents(given: object, name: str) -> list[nn.Module]:
    """Refuse what are no models, or none.

    Raises:
        InvalidArgumentError: naming the argument.
    """
    if isinstance(given, (nn.Module, str, bytes)) or not isinstance(given, Sequence) or not given:
        refuse(name, "a list of models", given, "give [model_a, model_b]")
    for k, parent in enumerate(given):
        check_plain(parent, f"{name}[{k}]")
    return list(given)


def check_plain(model: object, which: str) -> None:
    """Refuse what is no model, or has weights without numbers that can be scaled.

    Raises:
        InvalidArgumentError: it is none.
        InvalidParameterError: naming the parameter, what is wrong, and what to do.
    """
    check_model(model, which)
    assert isinstance(model, nn.Module)
    for name, parameter in model.named_parameters():
        if is_traceable_wrapper_subclass(parameter):
            raise InvalidParameterError(
                f"parameter {name!r} of {which} is stored as {type(parameter).__name__}; take the "
                "model before that was done, or with weights that are rounded but floating point"
            )
    check_parameters(model, which)


class _Passes:
    """The passes over the data, and what they find."""

    def __init__(self, subject: Subject, found: Found, *, progress: bool, count: int) -> None:
        self.subject, self.found = subject, found
        self.names = [place.name for place in found.places]
        self.layers = [p for p in found.places if p.kind != "batch_norm"]
        norms = [p for p in found.places if p.kind == "batch_norm"]
        self.stored = {place.name: stored_goal(subject.model, place) for place in norms}
        self.alive: dict[str, torch.Tensor] = {}
        self.batches = 0
        hidden = None if progress else True
        self.bar = tqdm(total=count, desc="repair", disable=hidden, leave=False)

    def measure(self, subject: Subject, names: Sequence[str] | None = None) -> dict[str, Moments]:
        watcher = Measuring()
        self.batches = subject.watch(watcher, self.names if names is None else names)
        self.bar.update()
        return watcher.moments

    def goals(self, parents: Sequence[nn.Module], shares: Sequence[float]) -> dict[str, Goal]:
        """What the parents' statistics say that ours should be.

        Raises:
            ArchitectureMismatchError: a parent lacks a layer, or has it in another width.
        """
        names = [place.name for place in self.layers]
        if not names:
            return {}
        measured = []
        for k, parent in enumerate(parents):
            try:
                subject = Subject(parent, self.subject.batches)
                _check_places(subject.find(), self.layers, f"like[{k}]")
                measured.append(self.measure(subject, names))
            except TraceError as error:
                raise ArchitectureMismatchError(
                    f"like[{k}]: expected a model that can be traced, as the repaired one can, "
                    f"found none: {error}"
                ) from error
        return {name: goal_of([m[name] for m in measured], shares) for name in names}

    def correct_at_once(self, goals: dict[str, Goal], method: Method) -> None:
        watcher = Correcting(goals, method)
        self.subject.watch(watcher, self.names)
        self.bar.update()
        self._fold(self.found.places, watcher)

    def correct_in_turn(self, goals: dict[str, Goal], method: Method) -> None:
        levels = sorted({place.level for place in self.found.places})
        self.bar.total += len(levels) - 1
        for level in levels:
            places = [place for place in self.found.places if place.level == level]
            watcher = Correcting(goals, method)
            watcher.moments = self.measure(self.subject, [place.name for place in places])
            self._fold(places, watcher)

    def _fold(self, places: Sequence[Place], watcher: Correcting) -> None:
        model = self.subject.model
        for place in places:
            moments = watcher.moments[place.name]
            if place.kind == "batch_norm":
                fold_statistics(model, place, moments.mean, moments.variance)
            else:
                fold(model, place.targets, *watcher.correction(place), shifted=place.shifted)
                self.alive[place.name] = is_alive(watcher.goals[place.name], moments)

    def report(
        self,
        before: dict[str, Moments],
        after: dict[str, Moments],
        goals: dict[str, Goal],
        method: Method,
        sequential: bool,
    ) -> RepairReport:
        rows = []
        for place in self.found.places:
            pair = before[place.name], after[place.name]
            if place.kind == "batch_norm":
                stored, now = self.stored[place.name], stored_goal(self.subject.model, place)
                alive = (stored.std > 0) & (now.std > 0)
                note = "measured afresh"
                rows.append(repaired(place, *pair, now, alive=alive, stored=stored, note=note))
                continue
            note = "" if method == "rescale" else _note_on(place, method)
            alive, goal = self.alive[place.name], goals[place.name]
            rows.append(repaired(place, *pair, goal, alive=alive, note=note))
        return RepairReport(method, sequential, self.batches, tuple(rows), dict(self.found.left))


def _note_on(place: Place, method: Method) -> str:
    if place.shifted is not None:
        return f"its shift is in {place.shifted.weight.name}'s bias"
    if place.can_shift:
        return ""
    return "no bias to shift" + ("; scaled to be near both goals" if method == "repair" else "")


def _check_places(found: Found, expected: Sequence[Place], which: str) -> None:
    known = {place.name: place for place in found.places}
    for place in expected:
        other = known.get(place.name)
        if other is None or other.channels != place.channels:
            there = f"one of {other.channels}" if other else "none"
            raise ArchitectureMismatchError(
                f"{which}: expected the layer {place.name!r} of {place.channels} channels, which "
                f"the model has, found {there}; give the parents as they were merged, and repair "
                "what is pruned before it is made smaller"
            )


def _without_graph(
    working: nn.Module, read: Batches, method: Method, sequential: bool, reason: str
) -> RepairReport:
    """Nothing but BatchNorm is put right."""
    layers = tracked_layers(working)
    count = measure_batch_norm(working, layers, read.read) if layers else 0
    done = f"{len(layers)} BatchNorm layers were measured afresh, nothing else was changed"
    note = f"there is no graph of the model: {reason}; {done}"
    return RepairReport(method, sequential, count, (), {}, (note,))


def _written_to(model: ModuleT, working: nn.Module, names: Sequence[str] | None) -> ModuleT:
    """The user's own model with the tensors that were corrected in its copy."""
    stored = {**dict(working.named_parameters()), **dict(working.named_buffers())}
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name in own if names is None else names:
        if not torch.equal(own[name], stored[name]):
            overwrite(own[name], stored[name])
    return model
