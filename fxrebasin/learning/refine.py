"""Learn the continuous part of an alignment from data."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import check_flag, check_function, check_kind, check_real, check_whole, refuse
from ..errors import InvalidArgumentError
from ..merging.batch_losses import Loss, again_and_again
from ..merging.measuring import check_data
from ..models.copying import deep_copy, forget_caches
from ..models.randomness import OwnRandomness, keeping_random_state, seed_python
from ..models.reported import put_report
from ..models.surroundings import neutral
from ..models.validation import check_model, check_same_architecture, stored_tensors
from ..symmetry.group import Symmetry, check_symmetry
from ..verification.verify import verify
from .learner import Learner, Schedule
from .report import LearningCallback, Refined, RefineReport
from .rotations import mixing_blocks

MOST_SHOWN = 6
"""Blocks that an error names."""


@neutral()
def refine(
    aligned: nn.Module,
    data: Iterable[Any],
    loss: Loss,
    *,
    to: nn.Module | None = None,
    symmetry: Symmetry | None = None,
    steps: int = 200,
    learning_rate: float = 3e-3,
    between: tuple[float, float] = (0.4, 0.6),
    seed: int = 0,
    callback: LearningCallback | None = None,
    progress: bool = True,
) -> Refined:
    """Learn from data how units are best mixed, so that models between A and B are good.

    Permutations and signs stay as they are. Where a larger group acts on a block, so that its units
    can be rotated or mixed by any invertible matrix, that matrix is learned: at every step, the
    loss of a model between A and B, ``A + t (B - A)`` with ``t`` drawn from ``between``, is
    computed on a batch, and its gradient with respect to the matrices is followed. B moves, A does
    not; what B computes stays. In transformers that is the residual stream and the inside of heads.

    >>> import torch, fxrebasin as fr
    >>> nets = [
    ...     torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)) for _ in range(2)
    ... ]
    >>> batches = [(torch.randn(16, 4), torch.randint(2, (16,))) for _ in range(4)]
    >>> def loss(model, batch):
    ...     x, y = batch
    ...     return torch.nn.functional.cross_entropy(model(x), y)
    >>> a, b = nets
    >>> symmetry = fr.analyze(b, args=(batches[0][0],))
    >>> [symmetry.kinds.describe(block.name, block.size) for block in symmetry]
    ['GL(8)']
    >>> better = fr.refine(b, batches, loss, to=a, symmetry=symmetry, steps=20, progress=False)
    >>> better.report.dimension, len(better.report.losses)
    (64, 20)

    Args:
        aligned: model B, aligned with A: what ``fr.rebasin(b, to=a, group="linear")`` returns, or
            any model of which the weights of norms are one where kinds want them absorbed. Not
            changed.
        data: batches for ``loss``, iterated again and again; no iterator, which ends once. They
            are handed on as they are, so they must be on the device of A.
        loss: takes a model and a batch, returns a tensor with one entry, which is minimised. It
            calls the model.
        to: model A, in the same gauge; by default that of the report of ``aligned``.
        symmetry: the group of B; by default that of the report of ``aligned``.
        steps: how many batches to learn from, at least 1. The learning rate falls to zero over the
            second half of them.
        learning_rate: of Adam.
        between: the least and the greatest ``t``.
        seed: of ``t``, and of whatever shuffles ``data``.
        callback: called with a :class:`fxrebasin.LearningStep` after every step; it may raise
            ``StopIteration`` to end learning there.
        progress: show a progress bar if the standard error is a terminal.

    Returns:
        A copy of ``aligned`` with other weights, which computes what ``aligned`` does: that is
        verified on the first batch. ``result.report`` is a :class:`fxrebasin.RefineReport`. Low
        precision is learned in float32, and rounded once.

    Raises:
        InvalidArgumentError: an option makes no sense, no block has anything continuous to learn,
            norms are not absorbed, or ``loss`` returns something else than a finite number that
            depends on the weights.
        ArchitectureMismatchError: A and B have different parameters.
        VerificationError: the result does not compute what ``aligned`` does.

    Source:
        Learning on one side, with ``t`` between 0.4 and 0.6, is A. Theus et al., "Generalized
        Linear Mode Connectivity for Transformers" (2025). That the groups are those
        found by the analysis is ours.
    """
    check_model(aligned, "aligned")
    check_data(data, "data")
    check_kind(data, Iterable, "data", "batches, as a list or a DataLoader")
    check_function(loss, "loss", "one that takes a model and a batch, and returns a loss")
    reference = _reference(aligned, to)
    symmetry = _symmetry(aligned, symmetry)
    check_whole(steps, "steps", least=1)
    check_real(learning_rate, "learning_rate")
    if not 0 < learning_rate < float("inf"):
        refuse("learning_rate", "a number above 0", learning_rate)
    _check_between(between)
    check_whole(seed, "seed", least=0)
    if callback is not None:
        check_function(callback, "callback", "one that takes a LearningStep, or None")
    check_flag(progress, "progress")
    check_same_architecture(aligned, reference)
    begin = time.perf_counter()
    ends = stored_tensors(reference), stored_tensors(aligned)
    _check_continuous(symmetry)
    _check_absorbed(symmetry, *ends)
    with torch.inference_mode(False), torch.enable_grad():
        learner = Learner(symmetry, reference, ends, loss, OwnRandomness(seed))
        with keeping_random_state(learner.model, always=True):
            seed_python(seed)
            schedule = Schedule(steps, learning_rate, between)
            batches = again_and_again(data)
            learner.run(batches, schedule, seed=seed, callback=callback, progress=progress)
    if learner.inputs is None:
        refuse("loss", "a function that calls the model that it is given", loss)
    transform = learner.transform()
    refined = transform.apply_to(aligned)
    before, after = (_with_weights_of(m, reference) for m in (aligned, refined))
    verification = verify(before, after, *learner.inputs, remade=True)
    seconds = time.perf_counter() - begin
    losses = tuple(learner.losses)
    report = RefineReport(transform, losses, learner.dimension, verification, seconds)
    put_report(report, refined)
    assert isinstance(refined, Refined)
    return refined


def _reference(aligned: nn.Module, to: nn.Module | None) -> nn.Module:
    report = getattr(aligned, "report", None)
    found = getattr(report, "reference", None) if to is None else to
    if found is None:
        advice = "give the model that it was aligned with, or what fr.rebasin returns for aligned"
        refuse("to", "model A", found, advice)
    check_model(found, "to")
    assert isinstance(found, nn.Module)
    return found


def _symmetry(aligned: nn.Module, symmetry: Symmetry | None) -> Symmetry:
    found = symmetry
    if found is None:
        found = getattr(getattr(aligned, "report", None), "symmetry", None)
    if found is None:
        refuse("symmetry", "that of the model", found, "give what fr.analyze returns for it")
    check_symmetry(found)
    assert isinstance(found, Symmetry)
    return found


def _with_weights_of(model: nn.Module, like: nn.Module) -> nn.Module:
    """A copy of the module that was learned with; an exported graph may not take its inputs."""
    made = deep_copy(like)
    weights = stored_tensors(model)
    with torch.no_grad():
        for name, tensor in stored_tensors(made).items():
            tensor.copy_(weights[name])
    forget_caches(made)
    return made


def _check_between(given: object) -> None:
    expected = "the least and the greatest share of B, as (0.4, 0.6)"
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) != 2:
        refuse("between", expected, given)
    for k, share in enumerate(given):
        check_real(share, f"between[{k}]")
    if not 0 <= given[0] <= given[1] <= 1:
        raise InvalidArgumentError(f"between: expected {expected}, found {tuple(given)}")


def _check_continuous(symmetry: Symmetry) -> None:
    if not any(mixing_blocks(symmetry)):
        kinds = [f"{b.name!r} {symmetry.kinds.describe(b.name, b.size)}" for b in symmetry]
        shown = ", ".join(kinds[:MOST_SHOWN]) + (", ..." if len(kinds) > MOST_SHOWN else "")
        raise InvalidArgumentError(
            "nothing can be learned: only units that can be mixed have a continuous part, those of "
            f"the kinds O and GL, and this model has none of them ({shown or 'no blocks'}); "
            "symmetry.explain says why"
        )


def _check_absorbed(symmetry: Symmetry, *models: Mapping[str, Tensor]) -> None:
    vectors = [v for b in mixing_blocks(symmetry) for v in symmetry.kinds.of(b.name).absorbed]
    for vector in vectors:
        for tensors, name in zip(models, ("to", "aligned"), strict=True):
            if vector in tensors and not torch.allclose(
                tensors[vector], torch.ones(()).to(tensors[vector])
            ):
                raise InvalidArgumentError(
                    f"{name}: expected a model whose norms are absorbed, but {vector!r} is not one "
                    'everywhere; align with group="linear", or give both models after '
                    "fr.canonicalise"
                )
