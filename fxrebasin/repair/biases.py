"""Biases for merged weights, without data: the bias of height ``h`` takes the ``h``-th powers.

The mean of the weights of two networks holds each network's share ``t`` in every layer, and so
``t^h`` of what it computes at height ``h``; but ``t`` of its bias there. In deep layers the biases
drown what depends on the input (the *vanishing feature*), unless they are given the same share.

Source: Qu and Horvath, "Vanishing Feature: Diagnosing Model Merging and Beyond", CPAL 2025
(arXiv:2402.05966), *bias calibration*; in its first version, "Rethink Model Re-Basin and the Linear
Mode Connectivity", it is named the normalisation of biases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..arguments import check_flag, check_shares
from ..errors import ArchitectureMismatchError
from ..models.copying import deep_copy
from ..models.surroundings import neutral
from ..models.validation import check_inputs, stored_tensors
from .channels import stored_value
from .folding import overwrite
from .heights import heights_of
from .repair import check_parents, check_plain
from .watching import trace_values

ModuleT = TypeVar("ModuleT", bound=nn.Module)


@dataclass(frozen=True)
class BiasReport:
    """Which biases :func:`fxrebasin.calibrate_biases` has put right."""

    heights: Mapping[str, int]
    """Of every bias, by name: the number of layers up to its own."""
    left: Mapping[str, str] = field(default_factory=dict)
    """The layers whose bias is as it was, and why."""

    def __repr__(self) -> str:
        return f"BiasReport({len(self.heights)} biases, {len(self.left)} left alone)"

    def __str__(self) -> str:
        lines = [f"{name}: height {height}" for name, height in self.heights.items()]
        return "\n".join([*lines, *(f"left alone: {n}: {why}" for n, why in self.left.items())])


@neutral()
def calibrate_biases(
    model: ModuleT,
    *,
    like: Sequence[nn.Module],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    weights: Sequence[float] | None = None,
    inplace: bool = False,
) -> ModuleT:
    """Give the biases of a merged model the shares that its weights have; no data are needed.

    The bias of height ``h``, which counts the layers from the inputs to its own, becomes the sum of
    the parents' biases times the ``h``-th powers of their weights: in homogeneous networks, of
    linear layers, convolutions, rectifiers and pooling, that is the share which each parent's
    weights have there. Outputs become smaller by that as well; the class of largest logit does not
    depend on their scale.

    >>> import torch, fxrebasin as fr
    >>> nets = [
    ...     torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    ...     for _ in "abm"
    ... ]
    >>> for a, b, merged in zip(*(net.parameters() for net in nets)):
    ...     merged.data = (a.data + b.data) / 2
    >>> calibrated = fr.calibrate_biases(nets[2], like=nets[:2], args=(torch.zeros(1, 4),))
    >>> print(calibrated.repair_report)
    0.bias: height 1
    2.bias: height 2
    >>> torch.allclose(calibrated[2].bias, (nets[0][2].bias + nets[1][2].bias) / 4)
    True

    Args:
        model: the weighted mean of the parents; not changed unless ``inplace``.
        like: the parents, already aligned, with biases of the same names.
        args, kwargs: example inputs; only their shapes matter.
        weights: those that the parents were merged with, at least 0, divided by their sum; None is
            equal ones.
        inplace: write into ``model`` and return it, instead of a deep copy.

    Returns:
        The model; ``result.repair_report`` is a :class:`~fxrebasin.repair.biases.BiasReport`.
        Biases after branches of different heights, after functions that are not homogeneous, such
        as a sigmoid, and up to the next normalisation after these, are as they were; normalisation
        begins to count anew.

    Raises:
        ArchitectureMismatchError: a parent lacks a bias, or has it in another shape.
        InvalidArgumentError: an option makes no sense.
        TraceError: there is no graph of the model.
        InvalidInputError: the model does not run on the example inputs.
        InvalidParameterError: weights are not finite, on the meta device, quantised, or sparse.

    Source:
        Qu and Horvath, Vanishing Feature, CPAL 2025.
    """
    check_plain(model, "model")
    parents = check_parents(like, "like")
    check_inputs(args, kwargs)
    shares = check_shares(weights, len(parents))
    check_flag(inplace, "inplace")
    graph, _ = trace_values(model, tuple(args or ()), dict(kwargs or {}))
    heights, left = heights_of(graph)
    biases = {name: _biases(name, model, parents) for name in heights}
    target = model if inplace else deep_copy(model)
    for name, height in heights.items():
        powers = torch.tensor(shares, dtype=torch.float64) ** height
        mixed = sum(p * b.double().cpu() for p, b in zip(powers, biases[name], strict=True))
        assert isinstance(mixed, Tensor)
        overwrite(stored_value(target, name), mixed)
    vars(target)["repair_report"] = BiasReport(heights, left)
    return target


def _biases(name: str, model: nn.Module, parents: Sequence[nn.Module]) -> list[Tensor]:
    """The bias of every parent.

    Raises:
        ArchitectureMismatchError: one lacks it, or has it in another shape.
    """
    shape = stored_value(model, name).shape
    found = []
    for k, parent in enumerate(parents):
        bias = stored_tensors(parent).get(name)
        if bias is None or bias.shape != shape:
            there = "none" if bias is None else f"one of shape {tuple(bias.shape)}"
            raise ArchitectureMismatchError(
                f"like[{k}]: expected {name!r} of shape {tuple(shape)}, as the model has it, found "
                f"{there}; give the models that were merged"
            )
        found.append(bias.detach())
    return found
