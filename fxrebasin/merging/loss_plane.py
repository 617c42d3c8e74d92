"""The loss on the plane through three models: two basins, and the mountain between them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..arguments import check_flag, check_real, check_whole, refuse
from ..errors import InvalidArgumentError
from ..models.validation import check_model
from .measuring import AtPoint, Evaluate, Measuring
from .plane import Plane
from .tensors import check_fit, computing, tensors_of, ties, varies

FLAT = 1e-6
"""Of the distance of C from the line through A and B, as a share of that from A: with less, the
three lie on a line but for rounding."""


def loss_plane(
    a: nn.Module,
    b: nn.Module,
    c: nn.Module,
    evaluate: Evaluate,
    *,
    steps: int = 21,
    margin: float = 0.2,
    loader: Iterable[object] | None = None,
    batches: int | None = None,
    at_point: AtPoint | None = None,
    progress: bool = True,
) -> Plane:
    """Evaluate models on a grid of the plane in weight space through ``a``, ``b`` and ``c``.

    Often these are model A, model B as it was trained, and B aligned with A: the line from A to
    the one leads over the barrier, that to the other does not.

    >>> import torch
    >>> from torch import nn
    >>> import fxrebasin as fr
    >>> x, y = torch.randn(64, 3), torch.randint(2, (64,))
    >>> def evaluate(model):
    ...     return nn.functional.cross_entropy(model(x), y)
    >>> models = [nn.Linear(3, 2) for _ in "abc"]
    >>> plane = fr.loss_plane(*models, evaluate, steps=5, progress=False)
    >>> plane.grid().shape
    (5, 5)
    >>> figure = plane.plot()

    The axes are made by Gram-Schmidt, of the differences of all parameters, tied ones once: the
    first leads from ``a`` to ``b``, the second, at a right angle, to the side of ``c``. What is
    evaluated is one deep copy of ``a``, in evaluation mode, with the weights of each point; buffers
    such as running statistics are combined as parameters are, but kept within what the three models
    have. Integer and boolean buffers, and buffers outside the state dict, are ``a``'s. No model is
    changed, nor is torch's random state; ``evaluate`` finds the same random state at every point.
    Besides the three models, one more is held in memory.

    Args:
        a, b, c: the models: the same keys, shapes and dtypes in their state dicts.
        evaluate: takes a model, returns its loss, or a mapping from names to numbers with
            ``"loss"`` among them. nan is reported as it is.
        steps: how many points each side of the grid has, at least 2. Besides these ``steps ** 2``,
            the three models themselves are evaluated.
        margin: how far the grid extends beyond the three models, as a share of how far they are
            apart on that axis; from 0 upwards.
        loader, batches, at_point: as in :func:`fxrebasin.interpolate`.
        progress: show a progress bar if the standard error is a terminal.

    Returns:
        The plane, with coordinates that are distances in weight space.

    Raises:
        ArchitectureMismatchError: the models' state dicts do not fit each other.
        InvalidArgumentError: an option makes no sense, the three models lie on a line, or
            ``evaluate`` returns something else than numbers.

    Source:
        Garipov et al., "Loss Surfaces, Mode Connectivity, and Fast Ensembling of DNNs", NeurIPS
        2018, figure 1.
    """
    for model, name in ((a, "a"), (b, "b"), (c, "c")):
        check_model(model, name)
    check_whole(steps, "steps", least=2)
    check_real(margin, "margin")
    if not 0 <= margin < math.inf:
        refuse("margin", "a number from 0 upwards", margin)
    check_flag(progress, "progress")
    measuring = Measuring(a, evaluate, loader=loader, batches=batches, at_point=at_point)
    models = [tensors_of(model) for model in (a, b, c)]
    for other, name in zip(models[1:], "bc", strict=True):
        check_fit(models[0], other, named=("a", name))
    basis = _Basis(models, measuring.parameters)
    corners = basis.corners
    x, y = (_places([spot[k] for spot in corners], steps, margin) for k in range(2))
    spots = [*corners, *((u, v) for v in y for u in x)]
    measured = []
    for k, spot in enumerate(
        tqdm(spots, desc="loss plane", disable=None if progress else True, leave=False)
    ):
        shares = np.eye(3)[k] if k < len(corners) else basis.shares(*spot)
        weights = _Weights(models, shares.tolist(), measuring.parameters)
        where = f"x = {spot[0]:.3g}, y = {spot[1]:.3g}"
        measured.append(measuring.at(float(shares[1]), weights, where=where))
    grids, at_corners = {}, {}
    for name in measured[0]:
        values = [row[name] for row in measured]
        at_corners[name] = (values[0], values[1], values[2])
        rows = np.array(values[3:]).reshape(steps, steps)
        grids[name] = tuple(tuple(row) for row in rows.tolist())
    return Plane(x, y, grids, corners, at_corners, batch_norm_recomputed=measuring.recomputes)


def _places(of_models: Sequence[float], steps: int, margin: float) -> tuple[float, ...]:
    """Evenly spaced, from beyond the first model to beyond the last."""
    low, high = min(of_models), max(of_models)
    beyond = margin * (high - low)
    return tuple(np.linspace(low - beyond, high + beyond, steps).tolist())


class _Basis:
    """Two axes at a right angle, on which three models have coordinates.

    Args:
        models: the tensors of A, B and C.
        parameters: the names of those that are measured.

    Raises:
        InvalidArgumentError: the three lie on a line.
    """

    def __init__(self, models: Sequence[Mapping[str, Tensor]], parameters: set[str]) -> None:
        again = ties(models[0])
        products = np.zeros((2, 2))
        for name, x in models[0].items():
            if name in parameters and name not in again and varies(x):
                sides = [_entries(m[name], x.device) - _entries(x, x.device) for m in models[1:]]
                for i, k in ((0, 0), (0, 1), (1, 1)):
                    products[i, k] += float(torch.dot(sides[i], sides[k]))
        self.width = math.sqrt(products[0, 0])
        if not self.width > 0:
            raise InvalidArgumentError(
                "b: expected another model than a, found the same parameters; three models that "
                "differ make a plane"
            )
        self.along = products[0, 1] / self.width
        self.height = math.sqrt(max(products[1, 1] - self.along**2, 0.0))
        if not self.height > FLAT * math.sqrt(products[1, 1]):
            raise InvalidArgumentError(
                "c: expected a model off the line through a and b, found one on it; for a line, "
                "use fxrebasin.interpolate"
            )

    @property
    def corners(self) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]:
        """Where A, B and C are."""
        return (0.0, 0.0), (self.width, 0.0), (self.along, self.height)

    def shares(self, x: float, y: float) -> np.ndarray:
        """How much of A, B and C a point is made of; together 1."""
        of_c = y / self.height
        of_b = (x - of_c * self.along) / self.width
        return np.array([1 - of_b - of_c, of_b, of_c])


def _entries(tensor: Tensor, device: torch.device) -> Tensor:
    """As one vector in float64."""
    tensor = tensor.detach().to(device)
    real = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    return real.to(torch.float64).ravel()


class _Weights:
    """The weights at one point, by name: so much of each model."""

    def __init__(
        self,
        models: Sequence[Mapping[str, Tensor]],
        shares: Sequence[float],
        parameters: set[str],
    ) -> None:
        self.models, self.shares, self.parameters = models, shares, parameters

    def __call__(self, name: str) -> Tensor:
        first = self.models[0][name]
        if not varies(first):
            return first
        if 1.0 in self.shares and self.shares.count(0.0) == len(self.shares) - 1:
            return self.models[self.shares.index(1.0)][name]
        sides = [computing(m[name].detach().to(first.device)) for m in self.models]
        total = sides[0] * self.shares[0]
        for side, share in zip(sides[1:], self.shares[1:], strict=True):
            total.add_(side, alpha=share)
        if name in self.parameters or total.is_complex():
            return total
        least, most = sides[0], sides[0]
        for side in sides[1:]:
            least, most = torch.minimum(least, side), torch.maximum(most, side)
        return total.clamp(least, most)
