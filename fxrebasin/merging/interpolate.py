"""What happens to the loss on the way from model to model.

Two trained networks usually sit in different basins: half way between them the loss is high. If
reordering the hidden units of one moves it into the other's basin, the line between them
becomes flat. The height of the hill is the *loss barrier*:

    barrier = max over t of  loss((1 - t) A + t B) - ((1 - t) loss(A) + t loss(B))

>>> from torch import nn
>>> a, b = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
>>> _ = nn.init.constant_(a.weight, -1.0), nn.init.constant_(b.weight, 1.0)
>>> path = interpolate(a, b, lambda model: 1 - model.weight.item() ** 2, steps=5)
>>> path.losses
(0.0, 0.75, 1.0, 0.75, 0.0)
>>> path.barrier
1.0
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from torch import Tensor, nn
from tqdm.auto import tqdm

from ..arguments import check_flag, check_items
from ..errors import InvalidArgumentError
from ..matching.solvers import coordinate_descent
from ..models.validation import check_model
from ..objectives import weights
from ..symmetry.group import Symmetry, check_symmetry
from .between import Between
from .curves import Bezier, Curve, as_curve, name_of
from .measuring import AtPoint, Evaluate, Measuring
from .path import Path
from .saving import Keep, Saving
from .tensors import check_fit, tensors_of

__all__ = ["Path", "interpolate"]


def interpolate(
    a: nn.Module,
    b: nn.Module,
    evaluate: Evaluate,
    *,
    via: Sequence[nn.Module] = (),
    curve: Curve | str = "linear",
    steps: int = 11,
    loader: Iterable[object] | None = None,
    batches: int | None = None,
    at_point: AtPoint | None = None,
    symmetry: Symmetry | None = None,
    save_to: str | os.PathLike[str] | None = None,
    keep: Keep | None = None,
    progress: bool = True,
) -> Path:
    """Evaluate models on the way in weight space from ``a`` to ``b``, by default a straight line.

    >>> import torch
    >>> from torch import nn
    >>> x, y = torch.randn(64, 3), torch.randint(2, (64,))
    >>> def evaluate(model):
    ...     logits = model(x)
    ...     accuracy = (logits.argmax(1) == y).float().mean()
    ...     return {"loss": nn.functional.cross_entropy(logits, y), "accuracy": accuracy}
    >>> path = interpolate(nn.Linear(3, 2), nn.Linear(3, 2), evaluate, steps=5)
    >>> path.points
    (0.0, 0.25, 0.5, 0.75, 1.0)
    >>> [*path.metrics]
    ['loss', 'accuracy']
    >>> chain = interpolate(nn.Linear(3, 2), nn.Linear(3, 2), evaluate, via=[nn.Linear(3, 2)])
    >>> len(chain.legs), chain.points[-1]
    (2, 2.0)

    Every model that is evaluated is one deep copy of ``a``, in evaluation mode, with other
    weights loaded into it. The ends are A and B bit for bit. Entries of floating point or complex
    parameters lie on the curve, in float32 where their own precision is less; those of buffers
    such as running statistics on the straight line, whatever the curve. Integer and boolean
    buffers, and buffers outside the state dict, are ``a``'s at every point. Neither model is
    changed, nor is torch's random state; ``evaluate`` finds the same random state at every point.

    Args:
        a: the model at t = 0.
        b: the last model: the same keys, shapes and dtypes in its state dict. Its class may be
            another, such as the ``torch.fx.GraphModule`` that ``fxrebasin.rebasin`` returns.
        evaluate: takes a model, returns its loss, or a mapping from names to numbers with
            ``"loss"`` among them. nan is reported as it is.
        via: models that the way leads through, in order. Each is one leg from the one before, and
            t counts them: ``a`` is at 0, the first of these at 1, and ``b`` at the number of legs.
        curve: of every leg: ``"linear"``, ``"spherical"`` (along an arc, tensor by tensor),
            :class:`fxrebasin.curves.Bezier` with a control point, as
            :func:`fxrebasin.train_bezier` finds one, or a function like them.
        steps: how many evenly spaced points a leg has, ends included, at least 2. The midpoint is
            always among them: for an even number it is inserted as one point more.
        loader: if given, BatchNorm statistics are measured afresh on it at *every* point, the two
            ends included, so that all points are treated alike (the ends' metrics then differ
            slightly from the metrics of the models as they came). See
            :func:`fxrebasin.repair.batch_norm.recompute_batch_norm`. It is iterated once per point.
        batches: how many batches of ``loader`` to use; ``None`` is all of them.
        at_point: what is done to the model at every point, ends included, before it is evaluated,
            such as a repair of its activations: a function that takes a model (a copy, which it
            may change) and, if it can take two arguments, t, and returns the model to evaluate.
        symmetry: the group of ``b``, if its units are to be aligned with ``a``'s first, by
            :func:`fxrebasin.match`, and so those of every model in ``via``: the way then leads
            through permuted models, which compute the same. By default all models are taken as
            they are.
        save_to: a folder, made if it is missing, to save the weights that are evaluated in, a
            file ``t=0.500000.safetensors`` for each point; files appear complete or not at all.
        keep: ``"best"`` keeps the weights at the lowest loss in memory, for :meth:`Path.best`;
            ``("accuracy", "max")`` those for ``path.best("accuracy", "max")``.
        progress: show a progress bar if the standard error is a terminal.

    Returns:
        The path, which prints itself as a table.

    Raises:
        ArchitectureMismatchError: the models' state dicts do not fit each other.
        InvalidArgumentError: an option makes no sense, or ``evaluate`` returns something else than
            numbers.
        OSError: ``save_to`` cannot be written to.

    Source:
        Goodfellow et al., Qualitatively Characterizing Neural Network Optimization Problems, ICLR
        2015; for the barrier see :attr:`Path.heights`, for curves :mod:`fxrebasin.curves`.
    """
    check_model(a, "a")
    check_model(b, "b")
    check_items(via, nn.Module, "via", "a torch.nn.Module", "give models")
    check_flag(progress, "progress")
    along = as_curve(curve)
    if symmetry is not None:
        check_symmetry(symmetry)
    within = _points(steps)
    if isinstance(along, Bezier) and via:
        raise InvalidArgumentError(
            f"via: expected none, since one control point bends one leg, found {len(via)} models; "
            "interpolate each leg alone, with a control point of its own"
        )
    measuring = Measuring(a, evaluate, loader=loader, batches=batches, at_point=at_point)
    models = [tensors_of(model) for model in (a, *via, b)]
    for k, other in enumerate(models[1:], 1):
        name = "b" if k == len(via) + 1 else f"via[{k - 1}]"
        check_fit(models[0], other, named=("a", name))
    if isinstance(along, Bezier):
        along.check({n: t for n, t in models[0].items() if n in measuring.parameters})
    if symmetry is not None:
        models[1:] = [_aligned(symmetry, m, models[0], progress) for m in models[1:]]
    saving = Saving(save_to, keep)
    points = [0.0, *(k + u for k in range(len(models) - 1) for u in within[1:])]
    measured: list[dict[str, float]] = []
    for t in tqdm(points, desc="interpolate", disable=None if progress else True, leave=False):
        point = Between(models, along, measuring.parameters, t)
        measured.append(measuring.at(t, point, seen=partial(saving.see, t)))
        saving.judge(t, measured[-1])
    metrics = {name: tuple(row[name] for row in measured) for name in measured[0]}
    return Path(
        tuple(points),
        metrics,
        batch_norm_recomputed=measuring.recomputes,
        curve=name_of(along),
        files=tuple(saving.files),
        kept=saving.best,
    )


def _points(steps: int) -> tuple[float, ...]:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 2:
        raise InvalidArgumentError(f"steps must be a whole number, at least 2, got {steps!r}")
    return tuple(sorted({i / (steps - 1) for i in range(steps)} | {0.5}))


def _aligned(
    symmetry: Symmetry, model: Mapping[str, Tensor], to: Mapping[str, Tensor], progress: bool
) -> dict[str, Tensor]:
    objective = weights(symmetry, model, to)
    return coordinate_descent(objective, progress=progress).permutation.apply(model)
