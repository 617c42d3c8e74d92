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


class Saving:
    """Saves weights to a folder, or keeps the best, or neither.

    Args:
        folder: where to save the weights of every point; made if it is missing.
        keep: ``"best"`` to keep the weights at the lowest loss, or None.

    Raises:
        InvalidArgumentError: ``keep`` is something else, or ``folder`` names none.
        OSError: the folder cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, keep: str | None) -> None:
        if keep is not None and (not isinstance(keep, str) or keep != "best"):
            refuse("keep", "'best' or None", keep, "give save_to=folder to have all points")
        if folder is not None:
            check_path(folder, "save_to")
            FilePath(folder).mkdir(exist_ok=True)
        self.folder, self.keep = folder, keep
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
        """Keep what was taken last, if its loss is lower than all before."""
        loss = metrics["loss"]
        lowest = math.inf if self.best is None else self.best.metrics["loss"]
        if self.keep is not None and (loss < lowest or (self.best is None and loss == lowest)):
            self.best = Point(t, dict(metrics), self._last)
