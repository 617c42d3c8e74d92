"""Look at an alignment layer by layer: what has come closer, what moved, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..arguments import check_device, check_flag, check_function, check_kind, refuse
from ..errors import InvalidArgumentError
from ..matching.alignment import Alignment, check_products
from ..matching.inner_products import InnerProducts
from ..matching.transforms.acting import value_at
from ..models.surroundings import neutral
from ..models.validation import check_model
from ..objectives import Objective, weights
from ..repair.batches import Inputs
from ..symmetry.permutation import Permutation
from ..symmetry.transform import Transform
from .activation_variance import Variances
from .between import Between
from .curves import linear
from .diagnosis import BlockMatch, Diagnosis, ParameterChange
from .margins import block_gains, exchange_losses, least_losses
from .measuring import check_data
from .tensors import check_fit, tensors_of, varies

State = Mapping[str, Tensor]


@neutral()
def diagnose(
    a: nn.Module,
    b: nn.Module,
    aligned: Transform | Alignment | nn.Module,
    *,
    data: Iterable[Any] | None = None,
    batches: int | None = None,
    inputs: Inputs | None = None,
    objective: Objective = weights,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Diagnosis:
    """Compare model A with model B as it was and as it is aligned, layer by layer.

    >>> import torch, fxrebasin as fr
    >>> a, b = (torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)) for _ in "ab")
    >>> aligned = fr.rebasin(b, to=a, args=(torch.zeros(1, 4),), progress=False)
    >>> found = fr.diagnose(a, b, aligned, data=[torch.randn(64, 4)], progress=False)
    >>> found.distance_after <= found.distance_before
    True
    >>> [parameter.name for parameter in found.parameters]
    ['0.weight', '0.bias', '1.weight', '1.bias']
    >>> figure = found.plot()

    For every parameter: the distance from A's to B's and the cosine of the angle between them,
    before and after. With data, also how much the units of its layer vary in the model half way,
    as a share of the mean of both ends, before and after: far below 1, their variance has
    collapsed. For every block: how many units moved, what that gained, and how far the match of a
    unit is ahead of its best rival; see :class:`BlockMatch`. And, in
    :attr:`Diagnosis.advice`, what this says about whether alignment helped.

    Args:
        a: the reference; not changed.
        b: the other model as it was; not changed.
        aligned: how it was aligned: the module that :func:`fxrebasin.rebasin` returned, what a
            solver returned, or a permutation.
        data: batches of inputs, iterated four times. A batch is a tensor, a tuple or list whose
            first entry is the input tensor, or a mapping from names of arguments to values.
        batches: how many batches to use; None is all of them.
        inputs: turns a batch of another kind into a tuple of positional arguments; ``tuple``, where
            all of it is.
        objective: what gains and margins are computed of, as in :func:`fxrebasin.match`.
        device: where to compute these; by default where A is.
        progress: show a progress bar if the standard error is a terminal.

    Returns:
        The diagnosis, which prints itself as two tables. BatchNorm layers are run with the mean of
        the ends' statistics half way.

    Raises:
        ArchitectureMismatchError: the models do not fit each other or the permutation.
        InvalidArgumentError: an option makes no sense, ``aligned`` does not say how units moved, or
            ``b`` was aligned in place.

    Source:
        For variance collapse: Jordan et al., "REPAIR: REnormalizing Permuted Activations for
        Interpolation Repair", ICLR 2023.
    """
    check_model(a, "a")
    check_model(b, "b")
    permutation = _permutation_of(aligned)
    if isinstance(aligned, nn.Module):
        _check_apart(b, aligned, permutation)
    check_data(data, "data", batches)
    if inputs is not None:
        check_function(inputs, "inputs", "one that takes a batch and returns a tuple")
    check_function(objective, "objective", "fr.objectives.weights")
    check_device(device)
    check_flag(progress, "progress")
    of_a, of_b = tensors_of(a), tensors_of(b)
    check_fit(of_a, of_b, named=("a", "b"))
    after = tensors_of(b) | permutation.apply(of_b)
    compared = objective(permutation.symmetry, of_b, of_a, device=device)
    check_products(compared)
    with tqdm(
        total=2 + 4 * (data is not None),
        desc="diagnose",
        disable=None if progress else True,
        leave=False,
    ) as bar:
        gains = block_gains(compared, permutation)
        bar.update()
        moved = Permutation(permutation.symmetry, permutation.indices)
        if moved != permutation:  # what else is done to B, before it is permuted
            unplaced = moved.inverse().compose(permutation).apply(of_b)
            losing = objective(permutation.symmetry, unplaced, of_a, device=device)
        else:
            losing = compared
        matches = _matches(losing, moved, gains, bar)
        ratios: dict[str, tuple[float | None, float | None]] = {}
        if data is not None:
            measured = Variances(a, data, batches=batches, inputs=inputs)
            ratios = _ratios(measured, (of_a, of_b, after), bar)
    changes = []
    for parameter in permutation.symmetry.parameters:
        name = next((n for n in parameter.names if n in of_a), None)
        if name is not None and not parameter.is_buffer:
            sides = (_comparison(of_a[name], other[name]) for other in (of_b, after))
            (before, near), (later, close) = sides
            half = ratios.get(name.rpartition(".")[0], (None, None))
            changes.append(
                ParameterChange(name, of_a[name].numel(), before, later, near, close, *half)
            )
    identity = Permutation.identity(permutation.symmetry)
    first, last = (value_at(compared, found) for found in (identity, permutation))
    return Diagnosis(tuple(changes), matches, first, last)


def _permutation_of(aligned: object) -> Transform:
    """How units moved.

    Raises:
        InvalidArgumentError: it does not say.
    """
    expected = "a Permutation, a Transform, an Alignment, or the module that fr.rebasin returned"
    if isinstance(aligned, nn.Module):
        report = getattr(aligned, "report", None)
        aligned = getattr(report, "permutation", None)
        if not isinstance(aligned, Transform):
            refuse("aligned", expected, report, "give what fr.match(symmetry, b, to=a) returns")
    if isinstance(aligned, Alignment):
        aligned = aligned.permutation
    check_kind(aligned, Transform, "aligned", expected)
    assert isinstance(aligned, Transform)
    return aligned


def _check_apart(b: nn.Module, aligned: nn.Module, permutation: Transform) -> None:
    """Refuse a model that was aligned in place: what it was is not known any more."""
    moving = [n for p in permutation.symmetry.parameters if p.groups for n in p.names]
    sides = tensors_of(b), tensors_of(aligned)
    for name in moving:
        one, other = (side.get(name) for side in sides)
        if one is not None and other is not None and one.data_ptr() == other.data_ptr() != 0:
            raise InvalidArgumentError(
                "b: expected the model as it was before it was aligned, found one that shares its "
                f"memory with what is aligned ({name!r}), as inplace=True leaves it; give a copy "
                "that was made before, or align without inplace=True"
            )


def _comparison(a: Tensor, b: Tensor) -> tuple[float, float | None]:
    """The distance, and the cosine of the angle, None where one of both is zero."""
    sides = []
    for tensor in (a, b.to(a.device)):
        tensor = tensor.detach()
        real = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
        sides.append(real.to(torch.float64).ravel())
    one, other = sides
    norms = float(torch.linalg.vector_norm(one) * torch.linalg.vector_norm(other))
    distance = float(torch.linalg.vector_norm(one - other))
    return distance, float(torch.dot(one, other)) / norms if norms else None


def _matches(
    objective: InnerProducts, permutation: Permutation, gains: Mapping[str, float], bar: Any
) -> tuple[BlockMatch, ...]:
    losses = exchange_losses(objective, permutation)
    bar.update()
    found = []
    for block in permutation.symmetry:
        flat = permutation.flat(block.name)
        moved = float(np.mean(flat != np.arange(len(flat))))
        margin, distinctness = None, None
        if block.name in losses and block.size > 1:
            lost = losses[block.name]
            margin = float(least_losses(lost).median())
            mean = float(lost.sum()) / (block.count * block.size * (block.size - 1))
            distinctness = max(margin, 0.0) / mean if mean > 0 else 0.0
        found.append(
            BlockMatch(block.name, block.units, moved, gains.get(block.name), margin, distinctness)
        )
    return tuple(found)


def _ratios(
    measured: Variances, states: tuple[State, State, State], bar: Any
) -> dict[str, tuple[float | None, float | None]]:
    """Per layer, the variance half way to B as it was and to B aligned, over the mean of the ends'.

    B aligned computes what B computes, so its variances are the same.
    """
    a, b, after = states
    names = {name for name, _ in measured.model.named_parameters(remove_duplicate=False)}
    runs = []
    for weights_of in (
        a.get,
        lambda name: b[name] if varies(b[name]) else a[name],
        Between([a, b], linear, names, 0.5),
        Between([a, after], linear, names, 0.5),
    ):
        runs.append(measured.under(weights_of))
        bar.update()
    start, end, *halves = runs

    def ratio(half: Mapping[str, float], name: str) -> float | None:
        mean = (start[name] + end.get(name, math.nan)) / 2
        share = half.get(name, math.nan) / mean if mean > 0 else math.nan
        return share if math.isfinite(share) else None

    return {name: (ratio(halves[0], name), ratio(halves[1], name)) for name in start}
