"""The weights at one point of the way through some models."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor

from ..arguments import refuse
from .curves import Curve, linear
from .tensors import computing, varies


class Between:
    """The weights at one point, by name.

    >>> import torch
    >>> models = [{"weight": torch.tensor([float(k)])} for k in (0, 4, 6)]
    >>> Between(models, linear, {"weight"}, 0.5)("weight")
    tensor([2.])
    >>> Between(models, linear, {"weight"}, 1.5)("weight")
    tensor([5.])

    Args:
        models: the tensors of each.
        curve: the way from each to the next, of parameters; all else lies on the straight line.
        parameters: their names.
        t: from 0 at the first model to 1 at the second, and so on. At whole numbers, tensors are
            the models' own; integers are the first model's everywhere.
    """

    def __init__(
        self,
        models: Sequence[Mapping[str, Tensor]],
        curve: Curve,
        parameters: Collection[str],
        t: float,
    ) -> None:
        leg = min(int(t), len(models) - 2)
        self.first, self.start, self.end = models[0], models[leg], models[leg + 1]
        self.curve, self.parameters, self.within = curve, parameters, t - leg

    def __call__(self, name: str) -> Tensor:
        start, end, t = self.start[name], self.end[name], self.within
        if not varies(start):
            return self.first[name]
        if t == 0:
            return start
        if t == 1:
            return end
        place = self.first[name].device
        start, end = (computing(side.detach().to(place)) for side in (start, end))
        if name not in self.parameters:
            return linear(name, start, end, t)
        found = self.curve(name, start, end, t)
        expected = f"a function that returns a tensor of shape {tuple(start.shape)} for {name!r}"
        if not isinstance(found, Tensor) or found.shape != start.shape:
            refuse("curve", expected, found, "see fr.curves.Curve")
        return found
