"""What happens to the loss on the straight line between two models.

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

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, SupportsFloat

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..arguments import check_flag, check_function, check_whole
from ..errors import ArchitectureMismatchError, InvalidArgumentError
from ..matching.solvers import coordinate_descent
from ..models.copying import deep_copy, set_modes
from ..models.randomness import keeping_random_state
from ..models.validation import check_model, check_same_tensors
from ..objectives import weights
from ..repair.batch_norm import check_loader, recompute_batch_norm, tracked_layers
from ..symmetry.group import Symmetry, check_symmetry
from .path import Path

__all__ = ["Path", "interpolate"]

Evaluate = Callable[[nn.Module], SupportsFloat | Mapping[str, SupportsFloat]]


def interpolate(
    a: nn.Module,
    b: nn.Module,
    evaluate: Evaluate,
    *,
    steps: int = 11,
    loader: Iterable[object] | None = None,
    batches: int | None = None,
    symmetry: Symmetry | None = None,
    progress: bool = True,
) -> Path:
    """Evaluate models on the straight line in weight space from ``a`` to ``b``.

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

    Every model that is evaluated is one deep copy of ``a``, in evaluation mode, with other
    weights loaded into it. The ends are A and B bit for bit. Entries of floating point or complex
    tensors of the state dict (parameters, and buffers such as running statistics) are
    interpolated, in float32 where their own precision is less; integer and boolean buffers, and
    buffers outside the state dict, are ``a``'s at every point. Neither model is changed, nor
    is torch's random state; ``evaluate`` finds the same random state at every point.

    Args:
        a: the model at t = 0.
        b: the model at t = 1: the same keys, shapes and dtypes in its state dict. Its class may be
            another, such as the ``torch.fx.GraphModule`` that ``fxrebasin.rebasin`` returns.
        evaluate: takes a model, returns its loss, or a mapping from names to numbers with
            ``"loss"`` among them. nan is reported as it is.
        steps: how many evenly spaced points, ends included, at least 2. The midpoint is always
            among them: for an even number it is inserted as one point more.
        loader: if given, BatchNorm statistics are measured afresh on it at *every* point, the two
            ends included, so that all points are treated alike (the ends' metrics then differ
            slightly from the metrics of the models as they came). See
            :func:`fxrebasin.repair.batch_norm.recompute_batch_norm`. It is iterated once per point.
        batches: how many batches of ``loader`` to use; ``None`` is all of them.
        symmetry: the group of ``b``, if its units are to be aligned with ``a``'s first, by
            :func:`fxrebasin.match`: the line then ends at the permuted ``b``, which computes the
            same. By default both models are taken as they are.
        progress: show a progress bar if the standard error is a terminal.

    Returns:
        The path, which prints itself as a table.

    Raises:
        ArchitectureMismatchError: the models' state dicts do not fit each other.
        InvalidArgumentError: an option makes no sense, or ``evaluate`` returns something else than
            numbers.

    Source:
        Goodfellow et al., Qualitatively Characterizing Neural Network Optimization Problems, ICLR
        2015; for the barrier see :attr:`Path.heights`.
    """
    check_model(a, "a")
    check_model(b, "b")
    check_function(evaluate, "evaluate", "one that takes a model and returns its loss")
    check_flag(progress, "progress")
    if symmetry is not None:
        check_symmetry(symmetry)
    points = _points(steps)
    if loader is not None:
        check_loader(loader)
    if batches is not None:
        check_whole(batches, "batches", least=1)
    if isinstance(loader, Iterator):
        raise InvalidArgumentError(
            "loader is read once per point, and an iterator or generator can be read only once: "
            "pass a list or a DataLoader"
        )
    start, end = _tensors(a), _tensors(b)
    check_same_tensors(start, end, named=("a", "b"), dtypes=True)
    _check_ties(start, end)
    if symmetry is not None:
        objective = weights(symmetry, end, start)
        end = coordinate_descent(objective, progress=progress).permutation.apply(end)
    model = deep_copy(a)
    slots = _tensors(model)
    recomputed = loader is not None and bool(tracked_layers(model))
    measured: list[dict[str, float]] = []
    for t in tqdm(points, desc="interpolate", disable=None if progress else True, leave=False):
        with keeping_random_state(model, always=True):
            _load_point(slots, start, end, t)
            if loader is not None:
                recompute_batch_norm(model, loader, batches=batches, inplace=True)
            set_modes(model, False)
            measured.append(_metrics(evaluate(model)))
        if measured[-1].keys() != measured[0].keys():
            raise InvalidArgumentError(
                f"evaluate returned the metrics {[*measured[0]]} at t = 0, "
                f"but {[*measured[-1]]} at t = {t:.3g}"
            )
    metrics = {name: tuple(row[name] for row in measured) for name in measured[0]}
    return Path(points, metrics, batch_norm_recomputed=recomputed)


def _points(steps: int) -> tuple[float, ...]:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 2:
        raise InvalidArgumentError(f"steps must be a whole number, at least 2, got {steps!r}")
    return tuple(sorted({i / (steps - 1) for i in range(steps)} | {0.5}))


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Give the tensors of a state dict; what else there is (extra state) has no halfway."""
    return {name: v for name, v in model.state_dict().items() if isinstance(v, Tensor)}


def _check_ties(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    """The copy of ``a`` has one place for tensors that ``a`` ties, so ``b``'s must be equal."""
    first_name: dict[tuple[object, ...], str] = {}
    for name, tensor in a.items():
        if not tensor.numel():
            continue
        place = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride())
        first = first_name.setdefault(place, name)
        if first != name and not torch.equal(b[first], b[name]):
            raise ArchitectureMismatchError(
                f"the models differ: {first!r} and {name!r} (both of shape {tuple(tensor.shape)}) "
                f"are one tensor in a, but have different values in b"
            )


def _load_point(
    slots: Mapping[str, Tensor], a: Mapping[str, Tensor], b: Mapping[str, Tensor], t: float
) -> None:
    """Write the weights at ``t`` into ``slots``, without changing which of them are tied."""
    with torch.no_grad():
        for name, slot in slots.items():
            start, end = a[name], b[name].to(a[name].device)
            if t == 0 or not (start.is_floating_point() or start.is_complex()):
                slot.copy_(start)
            elif t == 1:
                slot.copy_(end)
            else:
                dtype = start.dtype if start.itemsize >= 4 else torch.float32
                slot.copy_(torch.lerp(start.to(dtype), end.to(dtype), t))


def _metrics(result: object) -> dict[str, float]:
    """Read what ``evaluate`` returned, the loss first."""
    values: dict[str, Any] = dict(result) if isinstance(result, Mapping) else {"loss": result}
    if "loss" not in values:
        raise InvalidArgumentError(
            f"evaluate must return a number or a mapping with 'loss', got the keys {[*values]}"
        )
    numbers = {}
    for name, value in {"loss": values["loss"], **values}.items():
        try:
            if isinstance(value, str | bytes):
                raise TypeError("text is not a number")
            # torch warns of a loss that still has its graph; nobody needs that graph here.
            numbers[str(name)] = float(value.detach() if isinstance(value, Tensor) else value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InvalidArgumentError(
                f"evaluate must return numbers, got {type(value).__name__} for {name!r}: {error}"
            ) from error
    return numbers
