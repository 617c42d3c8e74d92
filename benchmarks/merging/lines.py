"""What is measured on the straight line between two networks, and at its middle."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.merging.fashion import Images
from benchmarks.merging.training import scores

State = Mapping[str, Tensor]
AtPoint = Callable[[nn.Module, float], nn.Module]


class Line(NamedTuple):
    """The figures of a line, and the curves that they are of."""

    figures: dict[str, float]
    curves: dict[str, list[float]]


def line(
    a: nn.Module,
    b: State,
    test: Images,
    *,
    loader: Iterable[object] | None = None,
    at_point: AtPoint | None = None,
    steps: int = 11,
) -> Line:
    """Loss and accuracy on the way from A to weights B.

    Args:
        a: the network at which the line begins.
        b: the state dict of the one at which it ends.
        test: what is measured on.
        loader: batches that BatchNorm's statistics are measured on at every point.
        at_point: makes another network of the one at a point, and of how far on the way it is.
        steps: points, ends included.
    """
    end = with_state(a, b)
    path = fr.interpolate(
        a,
        end,
        lambda m: scores(m, test),
        steps=steps,
        loader=loader,
        at_point=at_point,
        progress=False,
    )
    accuracies = path.metrics["accuracy"]
    figures = {
        "barrier": path.barrier,
        "loss": path.midpoint["loss"],
        "accuracy": path.midpoint["accuracy"],
        "loss of the parents": (path.losses[0] + path.losses[-1]) / 2,
        "accuracy of the parents": (accuracies[0] + accuracies[-1]) / 2,
    }
    curves = {"t": [*path.points], "loss": [*path.losses], "accuracy": [*accuracies]}
    return Line(figures, curves)


def with_state(model: nn.Module, state: State) -> nn.Module:
    """A copy of a network with other weights, in eval mode."""
    other = copy.deepcopy(model)
    other.load_state_dict(dict(state))
    return other.eval()


def half_way(a: nn.Module, b: State) -> nn.Module:
    """The network at the middle of the line; what is not of floating point is A's."""
    state = a.state_dict()
    between = {
        name: torch.lerp(tensor, b[name], 0.5) if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }
    return with_state(a, between)
