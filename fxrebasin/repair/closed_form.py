"""REPAIR of one linear layer without data: its statistics follow from those of its inputs.

Of inputs with mean ``m`` and covariance ``S``, the channel with weights ``w`` and bias ``b`` makes
the mean ``w m + b`` and the variance ``w S w``. Of the mean of two models' layers that is

    var = (1 - t)^2 var_0 + t^2 var_1 + 2 t (1 - t) c std_0 std_1

with the correlation ``c = w_0 S w_1 / (std_0 std_1)`` of the two models' units: less than the
square of the mean standard deviation, unless ``c = 1``.

Source: Jordan et al., "REPAIR: REnormalizing Permuted Activations for Interpolation Repair", ICLR
2023, where the correlation is the one way in which the variance collapses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..arguments import check_flag, check_kind, check_shares, refuse
from ..errors import ArchitectureMismatchError
from ..models.copying import deep_copy
from ..models.surroundings import neutral
from ..models.validation import check_tensor
from .channels import Slot
from .correcting import METHODS, Method, goal_of
from .folding import fold
from .moments import Moments
from .places import Target
from .repair import check_plain


@neutral()
def repair_linear(
    layer: nn.Linear,
    *,
    like: Sequence[nn.Linear],
    mean: Tensor | None = None,
    covariance: Tensor | None = None,
    weights: Sequence[float] | None = None,
    method: Method = "repair",
    inplace: bool = False,
) -> nn.Linear:
    """Give a merged linear layer the statistics of its parents, for inputs of known moments.

    Exact for inputs of any distribution with these first two moments. For a whole model take
    :func:`fxrebasin.repair`, which measures; this is for the first layer of one whose inputs are
    whitened, for layers after a norm, and wherever there are no data but the moments of them.

    >>> import torch, fxrebasin as fr
    >>> a, b, merged = (torch.nn.Linear(64, 3) for _ in "abm")
    >>> merged.weight.data, merged.bias.data = (a.weight + b.weight) / 2, (a.bias + b.bias) / 2
    >>> repaired = fr.repair_linear(merged, like=[a, b])
    >>> stds = [layer.weight.norm(dim=1) for layer in (a, b, repaired)]  # of N(0, 1) inputs
    >>> torch.allclose(stds[2], (stds[0] + stds[1]) / 2)
    True

    Args:
        layer: the merged one, ``[outputs, inputs]``; not changed unless ``inplace``.
        like: the layers of the parents, already aligned, of the same shape.
        mean: of the inputs, ``[inputs]``; None is 0.
        covariance: of the inputs, ``[inputs, inputs]``; None is the identity.
        weights: of the parents in the goals, as in :func:`fxrebasin.repair`.
        method: as there. Without a bias the scale is that which is nearest to both goals.
        inplace: write into ``layer`` and return it.

    Returns:
        The layer. Outputs that are constant in it, or in all parents, are as they were.

    Raises:
        ArchitectureMismatchError: the layers have different shapes.
        InvalidArgumentError: an option makes no sense, as a covariance that is not symmetric.
        InvalidParameterError: weights are not finite, on the meta device, quantised, or sparse.

    Source:
        Jordan et al., REPAIR, ICLR 2023.
    """
    _check_layer(layer, "layer")
    if isinstance(like, (nn.Module, str, bytes)) or not isinstance(like, Sequence) or not like:
        refuse("like", "a list of torch.nn.Linear", like)
    for k, parent in enumerate(like):
        _check_layer(parent, f"like[{k}]")
        if parent.weight.shape != layer.weight.shape:
            raise ArchitectureMismatchError(
                f"like[{k}]: expected a layer of shape {tuple(layer.weight.shape)}, found one of "
                f"{tuple(parent.weight.shape)}"
            )
    shares = check_shares(weights, len(like))
    if not isinstance(method, str) or method not in METHODS:
        refuse("method", " or ".join(map(repr, METHODS)), method)
    check_flag(inplace, "inplace")
    inputs = _inputs_of(mean, covariance, layer.in_features)
    goal = goal_of([_moments_of(parent, inputs) for parent in like], shares)
    measured = _moments_of(layer, inputs)
    correction = METHODS[method](goal, measured, shifts=layer.bias is not None)
    target = layer if inplace else deep_copy(layer)
    bias = None if layer.bias is None else Slot("bias", 0)
    fold(target, [Target(Slot("weight", 0), bias)], *correction)
    return target


class _Inputs(NamedTuple):
    mean: Tensor
    covariance: Tensor | None


def _inputs_of(mean: object, covariance: object, count: int) -> _Inputs:
    """The moments of inputs, in float64; None for a covariance of one.

    Raises:
        InvalidArgumentError: they are none, or none of so many inputs.
    """
    for given, name, shape in (
        (mean, "mean", (count,)),
        (covariance, "covariance", (count, count)),
    ):
        if given is None:
            continue
        check_tensor(given, name)
        assert isinstance(given, Tensor)
        if tuple(given.shape) != shape or not given.is_floating_point():
            refuse(name, f"a tensor of floating point of shape {shape}", given)
        if not bool(torch.isfinite(given).all()):
            refuse(name, "finite numbers", given)
    found = torch.zeros(count) if mean is None else mean
    assert isinstance(found, Tensor)
    if covariance is None:
        return _Inputs(found.detach().cpu().double(), None)
    assert isinstance(covariance, Tensor)
    wide = covariance.detach().cpu().double()
    if not torch.allclose(wide, wide.T, rtol=1e-4, atol=1e-6 * float(wide.abs().max())):
        refuse("covariance", "a symmetric matrix", covariance, "give torch.cov(x.T)")
    return _Inputs(found.detach().cpu().double(), wide)


def _moments_of(layer: nn.Linear, inputs: _Inputs) -> Moments:
    """The moments of what a layer makes of inputs."""
    weight = layer.weight.detach().cpu().double()
    moments = Moments(len(weight))
    moments.count = 1  # so that the variance is what is put for the sum of squares
    moments.mean = weight @ inputs.mean
    if layer.bias is not None:
        moments.mean = moments.mean + layer.bias.detach().cpu().double()
    spread = weight if inputs.covariance is None else weight @ inputs.covariance
    moments.squares = (spread * weight).sum(1).clamp(min=0.0)
    moments.eps = torch.finfo(layer.weight.dtype).eps
    return moments


def _check_layer(given: object, name: str) -> None:
    check_kind(given, nn.Linear, name, "a torch.nn.Linear", "for models take fr.repair")
    assert isinstance(given, nn.Linear)
    if "weight" not in given._parameters:
        refuse(name, "a torch.nn.Linear that stores its weight", given, "remove what computes it")
    check_plain(given, name)
