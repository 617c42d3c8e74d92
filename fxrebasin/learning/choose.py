"""Align in several ways, and keep that which leads to the best model half way."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..api import activation_matching, analyze
from ..arguments import check_choices, check_flag, check_function, check_whole
from ..canonical.canonicalise import canonicalise
from ..errors import WorseMidpointWarning
from ..matching.alignment import Alignment
from ..matching.coordinate_descent import coordinate_descent
from ..merging.measuring import Evaluate, Measuring
from ..merging.tensors import tensors_of, varies
from ..models.copying import deep_copy
from ..models.reported import put_report
from ..models.surroundings import neutral
from ..models.validation import check_inputs, check_parameters, check_same_architecture
from ..objectives.streams import match_from_streams, rotated_streams
from ..objectives.weight_matching import weight_matching, weights
from ..symmetry.group import Symmetry, check_symmetry
from ..symmetry.transform import Subgroup, Transform
from ..verification.verify import Verification, verify
from .choice import AS_IT_CAME, AlignmentTrial, ChoiceReport, Chosen
from .rotations import mixing_blocks

GROUPS: tuple[str, ...] = get_args(Subgroup)
COMPARED = ("weights", "activations")


@neutral()
def choose_alignment(
    model_b: nn.Module,
    *,
    to: nn.Module,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    evaluate: Evaluate,
    symmetry: Symmetry | None = None,
    groups: Sequence[Subgroup] | None = None,
    loader: Iterable[Any] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Chosen:
    """Align B with A in several ways, and keep that whose model half way is best.

    A higher objective is not always a better model half way; on transformers, matching weights can
    even be worse than nothing. So B is aligned by weights, by activations, and not at all, in every
    group that its blocks have, and a number of yours decides.

    >>> import torch, fxrebasin as fr
    >>> a = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    >>> x = torch.randn(32, 4)
    >>> b = fr.Transform.random(fr.analyze(a, args=(x,))).apply_to(a)  # A, in another order
    >>> def evaluate(model):
    ...     return (model(x) - a(x)).square().mean().item()
    >>> chosen = fr.choose_alignment(b, to=a, args=(x,), evaluate=evaluate, progress=False)
    >>> [trial.name for trial in chosen.report.tried]
    ['as it came', 'weights, signed', 'activations, signed']
    >>> chosen.report.chosen.loss < 1e-6
    True

    Args:
        model_b: the model to align; not changed.
        to: model A, of the same architecture; not changed.
        args, kwargs: example inputs, of which activations are compared: some hundreds, best.
        evaluate: takes a model and returns its loss, or a mapping with ``"loss"``: on data that the
            alignment has not seen, if the number is to be believed.
        symmetry: the group of B, if :func:`fxrebasin.analyze` has found it already.
        groups: which to search, as in :func:`fxrebasin.match`; by default ``"signed"``, and
            ``"linear"`` if there are units that can be mixed.
        loader: batches that BatchNorm's statistics are measured on, half way.
        seed: of the solver.
        progress: show a progress bar if the standard error is a terminal.

    Returns:
        A copy of B, aligned in the way that was best. ``result.report`` is a
        :class:`fxrebasin.ChoiceReport` with all that was tried; its ``reference`` is A, in the same
        gauge where norms had to be absorbed. That the result computes what B does is verified.

    Raises:
        InvalidArgumentError: an option makes no sense.
        ArchitectureMismatchError: A and B have different parameters.
        VerificationError: the result computes something else than B.
        InvalidParameterError, TraceError, InvalidInputError: see :func:`fxrebasin.analyze`.

    Warns:
        WorseMidpointWarning: every alignment made the model half way worse; B stays as it came.
    """
    check_inputs(args, kwargs)
    check_parameters(model_b, "model B")
    check_parameters(to, "the reference model A")
    check_same_architecture(model_b, to)
    check_function(evaluate, "evaluate", "one that takes a model and returns its loss")
    if groups is not None:
        check_choices(groups, GROUPS, "groups")
    check_whole(seed, "seed", least=0)
    check_flag(progress, "progress")
    if symmetry is None:
        symmetry = analyze(model_b, args, kwargs)
    check_symmetry(symmetry)
    pair = _Pair(symmetry, to, model_b, args, dict(kwargs or {}), seed)
    ways = [(what, group) for group in groups or _groups_of(symmetry) for what in COMPARED]
    candidates = _candidates(pair, ways, evaluate, loader)
    hidden = None if progress else True
    bar = tqdm(candidates, total=1 + len(ways), desc="choose", disable=hidden, leave=False)
    best, tried = None, []
    for candidate in bar:
        tried.append(candidate.trial)
        if best is None or candidate.trial.rank < best.trial.rank:
            best = candidate
    assert best is not None
    if best.alignment is None and len(tried) > 1:
        _warn(tried)
    report = ChoiceReport(
        symmetry=symmetry,
        tried=tuple(tried),
        chosen=best.trial,
        alignment=best.alignment,
        reference=best.reference,
        verification=pair.verify(best),
    )
    put_report(report, best.module)
    assert isinstance(best.module, Chosen)
    return best.module


def _groups_of(symmetry: Symmetry) -> tuple[Subgroup, ...]:
    return ("signed", "linear") if any(mixing_blocks(symmetry)) else ("signed",)


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A way to align, and the two models that it leads to."""

    trial: AlignmentTrial
    module: nn.Module
    reference: nn.Module
    alignment: Alignment | None


@dataclass(frozen=True, eq=False)
class _Pair:
    """What is aligned."""

    symmetry: Symmetry
    a: nn.Module
    b: nn.Module
    args: Sequence[Any]
    kwargs: dict[str, Any]
    seed: int

    @cached_property
    def canonical(self) -> _Pair:
        """Both models in the gauge in which units can be mixed."""
        a, b = (canonicalise(self.symmetry, model) for model in (self.a, self.b))
        return _Pair(self.symmetry, a, b, self.args, self.kwargs, self.seed)

    def align(self, what: str, group: Subgroup) -> Alignment:
        if what == "weights":
            return weight_matching(
                *(self.symmetry, self.b.state_dict()),
                to=self.a.state_dict(),
                group=group,
                seed=self.seed,
                progress=False,
            )
        if group == "linear":
            models = self.symmetry, self.b, self.a
            turned = rotated_streams(*models, self.args, self.kwargs)
            if turned is not None:
                return match_from_streams(turned, self.b.state_dict(), self._match_weights)
        return activation_matching(
            self.b,
            to=self.a,
            args=self.args,
            kwargs=self.kwargs,
            symmetry=self.symmetry,
            group=group,
            seed=self.seed,
            progress=False,
        )

    def _match_weights(
        self, b: Mapping[str, Tensor], start: Transform | None, kept: Collection[str]
    ) -> Alignment:
        compared = weights(self.symmetry, b, self.a.state_dict()).over("linear").keeping(kept)
        return coordinate_descent(compared, start=start, seed=self.seed, progress=False)

    def verify(self, candidate: _Candidate) -> Verification | None:
        """Hold what is returned against B, and the other gauge of A against A.

        Raises:
            VerificationError: one computes something else.
        """
        if candidate.alignment is None:
            return None
        remade = candidate.reference is not self.a
        if remade:
            verify(self.a, candidate.reference, self.args, self.kwargs, remade=True)
        return verify(self.b, candidate.module, self.args, self.kwargs, remade=remade)


def _candidates(
    pair: _Pair,
    ways: Iterable[tuple[str, Subgroup]],
    evaluate: Evaluate,
    loader: Iterable[Any] | None,
) -> Iterator[_Candidate]:
    as_it_came = deep_copy(pair.b)
    loss = _half_way(pair.a, as_it_came, evaluate, loader)
    yield _Candidate(AlignmentTrial(AS_IT_CAME, loss, 0.0), as_it_came, pair.a, None)
    for what, group in ways:
        begin = time.perf_counter()
        of = pair.canonical if group == "linear" else pair
        alignment = of.align(what, group)
        module = alignment.permutation.apply_to(of.b)
        seconds = time.perf_counter() - begin
        loss = _half_way(of.a, module, evaluate, loader)
        yield _Candidate(AlignmentTrial(f"{what}, {group}", loss, seconds), module, of.a, alignment)


def _half_way(
    a: nn.Module, b: nn.Module, evaluate: Evaluate, loader: Iterable[Any] | None
) -> float:
    ends = tensors_of(a), tensors_of(b)

    def between(name: str) -> Tensor:
        one, other = (side[name] for side in ends)
        return torch.lerp(one, other, 0.5) if varies(one) else one

    return Measuring(a, evaluate, loader=loader).at(0.5, between)["loss"]


def _warn(tried: Sequence[AlignmentTrial]) -> None:
    came, *others = tried
    best = min(others, key=lambda trial: trial.rank)
    if came.rank < best.rank and math.isfinite(came.loss):
        warnings.warn(
            f"half way between the models, the loss is {came.loss:.4g} as they came, and "
            f"{best.loss:.4g} after the best alignment ({best.name}); B is returned as it came",
            WorseMidpointWarning,
            stacklevel=4,
        )
