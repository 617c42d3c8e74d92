"""The weights at the points of a path: written to files, or the best of them kept."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path as FilePath

from torch import Tensor, nn

from ..arguments import check_path, refuse
from ..checkpoints.saving import save_tensors
from .path import Point
from .tensors import tensors_of

Keep = str | tuple[str, str]

MODES = ("min", "max")


class Saving:
    """Saves weights to a folder, or keeps the best, or neither.

    Args:
        folder: where to save the weights of every point; made if it is missing.
        keep: ``"best"`` to keep the weights at the lowest loss, a pair such as
            ``("accuracy", "max")`` to keep those at the best of another metric, or None.

    Raises:
        InvalidArgumentError: ``keep`` is something else, or ``folder`` names none.
        OSError: the folder cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, keep: Keep | None) -> None:
        if folder is not None:
            check_path(folder, "save_to")
            FilePath(folder).mkdir(exist_ok=True)
        self.folder, self.keep = folder, None if keep is None else _metric_and_mode(keep)
        self.files: list[str] = []
        self.best: Point | None = None
        self._last: dict[str, Tensor] = {}

    def see(self, t: float, model: nn.Module) -> None:
        """Take the weights of a model, before it is evaluated."""
        if self.folder is not None:
            file = FilePath(self.folder) / f"t={t:.6f}.safetensors"
            save_tensors(tensors_of(model), file, {"t": repr(t)})
            self.files.append(os.fspath(file))
        if self.keep is not None:
            self._last = {n: x.detach().clone() for n, x in tensors_of(model).items()}

    def judge(self, t: float, metrics: Mapping[str, float]) -> None:
        """Keep what was taken last, if its metric is better than all before.

        Raises:
            InvalidArgumentError: there is no such metric.
        """
        if self.keep is None:
            return
        metric, mode = self.keep
        if metric not in metrics:
            refuse("keep", f"a metric that evaluate returns, one of {[*metrics]}", metric)
        sign = -1 if mode == "max" else 1
        value = sign * metrics[metric]
        lowest = math.inf if self.best is None else sign * self.best.metrics[metric]
        if value < lowest or (self.best is None and value == lowest):
            self.best = Point(t, dict(metrics), self._last)


def _metric_and_mode(keep: object) -> tuple[str, str]:
    if isinstance(keep, str) and keep == "best":
        return "loss", "min"
    pair = tuple(keep) if isinstance(keep, (tuple, list)) else ()
    if len(pair) != 2 or not all(isinstance(x, str) for x in pair) or pair[1] not in MODES:
        expected = "'best', a metric with 'min' or 'max' as ('accuracy', 'max'), or None"
        refuse("keep", expected, keep, "give save_to=folder to have all points")
    return pair
