"""Align, average, repair, and keep what the user's own number likes best."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from torch import nn
from tqdm.auto import tqdm

from ..arguments import check_shares
from ..errors import VerificationError
from ..models.copying import deep_copy
from ..models.randomness import keeping_random_state
from ..models.running import run
from ..objectives import Objective
from ..repair.batch_norm import measure_batch_norm, tracked_layers
from ..repair.batches import Batches
from ..repair.repair import repair as repair_model
from ..repair.report import RepairReport
from ..symmetry.group import Symmetry
from ..verification.verify import verify
from .alignments import AS_THEY_CAME, examples_of, ways_to_align
from .average import State
from .measuring import Evaluate, metrics_of
from .merge_report import MergedModule, MergeReport, Trial, attach
from .merged import Merged
from .parents import Parents, Permuted
from .protocol import MergeMethod
from .reference import mean

logger = logging.getLogger(__name__)

Choose = Callable[[Iterable[float]], float]
"""``min`` or ``max``."""

Repair = Literal["auto", "repair", "rescale", "reshift", "batch_norm", "none"]
REPAIRS: tuple[str, ...] = get_args(Repair)


@dataclass(frozen=True, eq=False)
class Merging:
    """What is merged, and by what it is judged."""

    parents: Parents
    symmetry: Symmetry
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    data: Iterable[Any] | None
    weights: Sequence[float] | None
    method: MergeMethod
    objective: Objective
    repair: str
    evaluate: Evaluate | None
    choose: Choose | None
    seed: int
    progress: bool


@dataclass(eq=False)
class _Candidate:
    """One model that was made, and what is known of it."""

    trial: Trial
    module: nn.Module
    merged: Merged
    repaired: RepairReport | None


@dataclass(eq=False)
class _Clock:
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def merge_states(given: Merging) -> Merged:
    """Merge state dicts that there is no module for."""
    options = {"weights": given.weights, "seed": given.seed, "progress": given.progress}
    ways = ways_to_align(
        *(given.parents, given.symmetry, given.method, given.objective, None, options),
        several=False,
    )
    return ways["weights"]()


def merge_models(given: Merging) -> MergedModule:
    """Make one model of several; see :func:`fxrebasin.merge`."""
    clock = _Clock()
    weights = check_shares(given.weights, len(given.parents))
    options = {"weights": weights, "seed": given.seed, "progress": given.progress}
    examples = None
    if given.choose is not None and given.data is not None:
        examples = examples_of(given.data, given.parents.device)
    ways = ways_to_align(
        *(given.parents, given.symmetry, given.method, given.objective, examples, options),
        several=given.choose is not None,
    )
    repairs = _repairs(given)
    hidden = None if given.progress else True
    best: _Candidate | None = None
    tried: list[Trial] = []
    error = 0.0
    total = len(ways) * len(repairs)
    with tqdm(total=total, desc="merge", disable=hidden, leave=False) as bar:
        for alignment, align in ways.items():
            with clock.timing("align"):
                merged = align()
            parents = _aligned_parents(given, merged, needed=given.data is not None)
            with clock.timing("verify"):
                error = max(error, _verify(given, merged))
            for name in repairs:
                candidate = _make(given, alignment, name, merged, parents, clock)
                tried.append(candidate.trial)
                logger.info("%s: %s", candidate.trial.name, dict(candidate.trial.metrics))
                if best is None or _is_better(candidate.trial, best.trial, given.choose or min):
                    best = candidate
                bar.update()
    assert best is not None
    report = MergeReport(
        merged=best.merged,
        symmetry=given.symmetry,
        chosen=best.trial,
        tried=tuple(tried),
        weights=weights,
        error=error,
        parents=_of_parents(given, clock),
        naive=_of_naive(given, best, tried, clock),
        repair=best.repaired,
        seconds=clock.seconds,
        notes=tuple(_notes(given, best)),
    )
    return attach(report, best.module)


def _repairs(given: Merging) -> tuple[str, ...]:
    """Which kinds of repair are tried; without data there is none."""
    if given.data is None:
        return ("none",)
    if given.repair != "auto":
        return (given.repair,)
    if given.evaluate is None:
        return ("repair",)
    assert given.parents.template is not None
    least = "batch_norm" if tracked_layers(given.parents.template) else "none"
    return (least, "repair", "rescale")


def _aligned_parents(given: Merging, merged: Merged, *, needed: bool) -> list[nn.Module]:
    """The parents as modules, permuted; only where their statistics are needed."""
    if not needed:
        return []
    pairs = zip(given.parents.states, merged.permutations, strict=True)
    return [given.parents.module(Permuted(state, p)) for state, p in pairs]


def _verify(given: Merging, merged: Merged) -> float:
    """The largest relative difference between a parent and what it is permuted.

    Raises:
        VerificationError: one computes something else.
    """
    error = 0.0
    for state, permutation in zip(given.parents.states, merged.permutations, strict=True):
        if not permutation.is_identity:
            original = given.parents.module(state)
            permuted = given.parents.module(Permuted(state, permutation))
            error = max(error, verify(original, permuted, given.args, given.kwargs).error)
    return error


def _make(
    given: Merging,
    alignment: str,
    repair: str,
    merged: Merged,
    parents: Sequence[nn.Module],
    clock: _Clock,
) -> _Candidate:
    with clock.timing("repair"):
        module, repaired = _repaired(given, merged.state_dict, parents, repair)
    _check_runs(module, given.args, given.kwargs)
    with clock.timing("evaluate"):
        metrics = _metrics(given, module)
    return _Candidate(Trial(alignment, repair, metrics), module, merged, repaired)


def _repaired(
    given: Merging, state: State, parents: Sequence[nn.Module], repair: str
) -> tuple[nn.Module, RepairReport | None]:
    module = given.parents.module(state)
    if repair == "none":
        return module, None
    assert given.data is not None
    if repair == "batch_norm":
        return _with_batch_norm_measured(module, given.data), None
    repaired = repair_model(
        module,
        like=parents,
        data=given.data,
        weights=given.weights,
        method=repair,  # type: ignore[arg-type]  # one of its methods, as checked
        progress=given.progress,
    )
    return repaired, vars(repaired)["repair_report"]


def _with_batch_norm_measured(module: nn.Module, data: Iterable[Any]) -> nn.Module:
    layers = tracked_layers(module)
    if layers:
        measure_batch_norm(module, layers, Batches(data).read)
    return module


def _metrics(given: Merging, module: nn.Module) -> dict[str, float]:
    if given.evaluate is None:
        return {}
    with keeping_random_state(module, always=True):
        return metrics_of(given.evaluate(deep_copy(module)))


def _is_better(one: Trial, other: Trial, choose: Choose) -> bool:
    """Where nothing is measured, and where one is nan, the first that was tried stays."""
    if not one.metrics:
        return False
    new, old = one.metrics["loss"], other.metrics["loss"]
    if new != new:
        return False
    return old != old or (new != old and choose([new, old]) == new)


def _of_parents(given: Merging, clock: _Clock) -> tuple[Mapping[str, float], ...]:
    if given.evaluate is None:
        return ()
    with clock.timing("evaluate"):
        modules = (given.parents.module(state) for state in given.parents.states)
        return tuple(_metrics(given, module) for module in modules)


def _of_naive(
    given: Merging, best: _Candidate, tried: Sequence[Trial], clock: _Clock
) -> Mapping[str, float]:
    """Metrics of the mean of the models as they came, repaired like the chosen one."""
    if given.evaluate is None:
        return {}
    repair = best.trial.repair
    for trial in tried:
        if trial.alignment == AS_THEY_CAME and trial.repair == repair:
            return trial.metrics
    merged = mean(given.symmetry, given.parents.states, weights=given.weights, progress=False)
    parents = _aligned_parents(given, merged, needed=repair not in ("none", "batch_norm"))
    return _make(given, AS_THEY_CAME, repair, merged, parents, clock).trial.metrics


def _check_runs(module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse a merged model that computes nothing finite.

    Raises:
        VerificationError: all of an output is nan or infinite.
    """
    for output in run(module, args, kwargs):
        if output.is_floating_point() and output.numel() and not output.isfinite().any():
            raise VerificationError(
                "the merged model computes nothing finite on the example inputs; its parents "
                "differ too much in scale, or one of them does not compute anything finite either"
            )


def _notes(given: Merging, best: _Candidate) -> Iterable[str]:
    assert given.parents.template is not None
    if given.data is None and tracked_layers(given.parents.template):
        yield (
            "running statistics of BatchNorm are averages, which describe the merged model badly; "
            "give data= to measure them afresh"
        )
    if best.trial.alignment == AS_THEY_CAME:
        yield "the models are best merged as they came: alignment has not helped"
    elif all(p.is_identity for p in best.merged.permutations) and given.symmetry.blocks:
        yield "no unit moved: the models may have a common ancestor, and be in one basin already"
