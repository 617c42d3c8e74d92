"""What was measured along the way from model to model, and how it is shown.

>>> path = Path((0, 0.5, 1), {"loss": (1.0, 4.0, 2.0)})
>>> path.barrier
2.5
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from safetensors.torch import load_file
from torch import Tensor

from ..arguments import check_kind, check_text, refuse
from ..drawing.curves import Row, draw_rows
from ..drawing.figures import save_figure
from ..drawing.letters import letter
from ..drawing.tables import html_table
from ..errors import FileFormatError, InvalidArgumentError
from .tables import csv_text, finite, handed_over, number, read_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Point:
    """One point of a path.

    Args:
        t: where on the path.
        metrics: what was measured there.
        state_dict: the weights that were evaluated there, where they were kept or saved.
    """

    t: float
    metrics: Mapping[str, float]
    state_dict: Mapping[str, Tensor] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Path:
    """Metrics at points of the way from model A (t = 0) to model B (t = 1), or on to others.

    >>> path = Path((0, 0.5, 1), {"loss": (1.0, 4.0, 2.0), "accuracy": (0.9, 0.4, 0.8)})
    >>> path.barrier
    2.5
    >>> path.midpoint
    {'loss': 4.0, 'accuracy': 0.4}
    >>> print(path)
    path from A (t = 0) to B (t = 1): loss barrier 2.5 at t = 0.5
         t      loss  accuracy
     0.000         1       0.9
     0.500         4       0.4
     1.000         2       0.8

    The way through several models has a leg from each to the next, and t counts the legs:

    >>> chain = Path((0, 0.5, 1, 1.5, 2), {"loss": (1.0, 4.0, 2.0, 2.5, 1.0)})
    >>> [leg.barrier for leg in chain.legs]
    [2.5, 1.0]

    Args:
        points: the values of t, increasing from exactly 0 to the number of legs, which is 1 between
            two models. Every whole number, where a model is, must be among them.
        metrics: for each metric, its value at every point. ``"loss"`` must be among them.
        batch_norm_recomputed: whether BatchNorm statistics were measured afresh at every point.
        curve: what the way between two models is called.
        files: where the weights at every point were saved, if they were.
        kept: the point of the lowest loss, or of what else was asked for, with its weights, if it
            was kept.

    Raises:
        InvalidArgumentError: the points or metrics are not as described.
    """

    points: tuple[float, ...]
    metrics: Mapping[str, tuple[float, ...]]
    batch_norm_recomputed: bool = False
    curve: str = "linear"
    files: tuple[str, ...] = ()
    kept: Point | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        points = tuple(float(t) for t in self.points)
        metrics = {name: tuple(float(v) for v in row) for name, row in self.metrics.items()}
        legs = points[-1] if points and math.isfinite(points[-1]) else 0.0
        models = {float(k) for k in range(int(legs) + 1)}
        rising = points[:1] == (0.0,) and sorted(set(points)) == [*points]
        if not rising or legs < 1 or legs != int(legs) or not models <= {*points}:
            raise InvalidArgumentError(
                f"points must increase from 0 to 1, or through all whole numbers to the number "
                f"of legs, got {points}"
            )
        if "loss" not in metrics:
            raise InvalidArgumentError(f"metrics must have 'loss', got {[*metrics]}")
        for name, row in metrics.items():
            if len(row) != len(points):
                raise InvalidArgumentError(
                    f"metric {name!r} has {len(row)} values for {len(points)} points"
                )
        if self.files and len(self.files) != len(points):
            raise InvalidArgumentError(
                f"files must name one file per point, got {len(self.files)} for {len(points)}"
            )
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "metrics", metrics)
        object.__setattr__(self, "files", tuple(self.files))

    @property
    def losses(self) -> tuple[float, ...]:
        """The loss at every point."""
        return self.metrics["loss"]

    @property
    def legs(self) -> tuple[Path, ...]:
        """The way from each model to the next, as paths of their own, on which t runs to 1."""
        found = []
        for k in range(int(self.points[-1])):
            here = [i for i, t in enumerate(self.points) if k <= t <= k + 1]
            part = slice(here[0], here[-1] + 1)
            found.append(
                Path(
                    tuple(t - k for t in self.points[part]),
                    {name: row[part] for name, row in self.metrics.items()},
                    batch_norm_recomputed=self.batch_norm_recomputed,
                    curve=self.curve,
                    files=self.files[part],
                )
            )
        return tuple(found)

    @property
    def heights(self) -> tuple[float, ...]:
        """How far the loss lies above the straight line between the losses of the two models that
        a point is between.

        Source: Entezari et al., The Role of Permutation Invariance in Linear Mode Connectivity of
        Neural Networks, ICLR 2022, definition 2.1. (Frankle et al., Linear Mode Connectivity and
        the Lottery Ticket Hypothesis, ICML 2020, take the mean of the two ends for the line, as
        :attr:`barrier_over_mean` does.)
        """
        at_models = dict(zip(self.points, self.losses, strict=True))
        found = []
        for t, loss in zip(self.points, self.losses, strict=True):
            k = min(math.floor(t), int(self.points[-1]) - 1)
            first, last = at_models[k], at_models[k + 1]
            found.append(loss - ((1 - (t - k)) * first + (t - k) * last))
        return tuple(found)

    @property
    def barrier(self) -> float:
        """The loss barrier: the greatest of ``heights``. It is nan if any of them is."""
        return float(np.max(self.heights))

    @property
    def barrier_over_mean(self) -> float:
        """The greatest loss less the mean of the losses at the two ends; of a chain, the greatest
        of its legs'. It is nan if any loss is.

        Where one end is worse than the other, this is half of their difference even if the loss
        does not rise between them, and :attr:`barrier` is 0.

        >>> slope = Path((0, 0.5, 1), {"loss": (1.0, 2.0, 3.0)})
        >>> slope.barrier_over_mean, slope.barrier
        (1.0, 0.0)

        Source: Frankle et al., Linear Mode Connectivity and the Lottery Ticket Hypothesis, ICML
        2020, section 2 (of the error, there called instability).
        """
        ends = [leg.losses for leg in self.legs]
        return float(np.max([np.max(x) - (x[0] + x[-1]) / 2 for x in ends]))

    @property
    def midpoint(self) -> dict[str, float]:
        """Every metric at t = 0.5.

        Raises:
            InvalidArgumentError: the path has no such point, or several legs.
        """
        if self.points[-1] > 1:
            raise InvalidArgumentError(
                f"the path has {len(self.legs)} legs; each has a midpoint, as path.legs[0].midpoint"
            )
        if 0.5 not in self.points:
            raise InvalidArgumentError(f"the path has no point t = 0.5, only {self.points}")
        middle = self.points.index(0.5)
        return {name: row[middle] for name, row in self.metrics.items()}

    def best(self, metric: str = "loss", mode: str = "min") -> Point:
        """The point at which a metric is best; of several, the first. nan is never best.

        >>> path = Path((0, 0.5, 1), {"loss": (1.0, 4.0, 2.0), "accuracy": (0.8, 0.4, 0.9)})
        >>> path.best("accuracy", mode="max")
        Point(t=1.0, metrics={'loss': 2.0, 'accuracy': 0.9})

        Args:
            metric: one of ``metrics``.
            mode: ``"min"`` if less is better, ``"max"`` if more is.

        Returns:
            The point; with its weights, if :func:`fxrebasin.interpolate` kept or saved them.

        Raises:
            InvalidArgumentError: there is no such metric or mode, or the metric is nan everywhere.
            OSError: the weights were saved, and their file is gone.
        """
        check_text(metric, "metric", f"one of {[*self.metrics]}")
        if metric not in self.metrics:
            refuse("metric", f"one of {[*self.metrics]}", metric)
        check_text(mode, "mode", "'min' or 'max'")
        if mode not in ("min", "max"):
            refuse("mode", "'min' or 'max'", mode)
        row = np.array(self.metrics[metric])
        if np.isnan(row).all():
            raise InvalidArgumentError(f"metric: expected one with numbers, found {metric!r}, nan")
        k = int(np.nanargmin(row) if mode == "min" else np.nanargmax(row))
        metrics = {name: values[k] for name, values in self.metrics.items()}
        state: Mapping[str, Tensor] | None = None
        if self.kept is not None and self.kept.t == self.points[k]:
            state = self.kept.state_dict
        elif self.files:
            state = load_file(self.files[k])
        return Point(self.points[k], metrics, state)

    def __str__(self) -> str:
        widths = [max(9, len(name)) for name in self.metrics]
        lines = [self._headline()]
        for first, *cells in [("t", *self.metrics), *self._rows()]:
            padded = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
            lines.append(f"{first:>6} {' '.join(padded)}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return html_table(self._headline(), ("t", *self.metrics), self._rows())

    def _rows(self) -> list[tuple[str, ...]]:
        columns = zip(self.points, *self.metrics.values(), strict=True)
        return [(f"{t:.3f}", *(f"{v:.4g}" for v in values)) for t, *values in columns]

    def _headline(self) -> str:
        top = self.points[int(np.argmax(self.heights))]
        legs = int(self.points[-1])
        way = "path" if self.curve == "linear" else f"{self.curve} path"
        through = "" if legs == 1 else f" through {legs - 1} more"
        each = "" if legs == 1 else ", per leg " + ", ".join(f"{p.barrier:.4g}" for p in self.legs)
        recomputed = ", BatchNorm statistics recomputed" if self.batch_norm_recomputed else ""
        return (
            f"{way} from A (t = 0){through} to {letter(legs)} (t = {legs}){recomputed}: "
            f"loss barrier {self.barrier:.4g} at t = {top:.3g}{each}"
        )

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> str:
        """Write the path as comma-separated values, a row per point, with all digits.

        >>> print(Path((0, 1), {"loss": (0.5, 0.25)}).to_csv(), end="")
        t,loss
        0.0,0.5
        1.0,0.25

        Args:
            path: a file to write as well; it appears complete or not at all.

        Returns:
            The text.

        Raises:
            InvalidArgumentError: ``path`` names no file.
            OSError: the folder is missing or cannot be written.
        """
        rows = zip(self.points, *self.metrics.values(), strict=True)
        return handed_over(csv_text(("t", *self.metrics), rows), path)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Write the path as JSON text. What JSON has no number for (nan, infinity) becomes null.

        >>> text = Path((0, 1), {"loss": (0.5, float("nan"))}).to_json()
        >>> text[:75]
        '{"points": [0.0, 1.0], "metrics": {"loss": [0.5, null]}, "barrier": null, "'
        >>> Path.from_json(text).points
        (0.0, 1.0)

        Args:
            path: a file to write as well; it appears complete or not at all.

        Returns:
            The text, which :meth:`from_json` reads. Weights are not in it, but the names of the
            files are that they were saved to.

        Raises:
            InvalidArgumentError: ``path`` names no file.
            OSError: the folder is missing or cannot be written.
        """
        content = {
            "points": self.points,
            "metrics": {name: [finite(v) for v in row] for name, row in self.metrics.items()},
            "barrier": finite(self.barrier),
            "batch_norm_recomputed": self.batch_norm_recomputed,
            "curve": self.curve,
            "files": self.files,
        }
        return handed_over(json.dumps(content), path)

    @classmethod
    def from_json(cls, text: str) -> Path:
        """Read what :meth:`to_json` wrote; null becomes nan.

        Raises:
            InvalidArgumentError: it is no text.
            FileFormatError: it is not such a path.
        """
        content = read_json(text, "Path")
        try:
            return cls(
                tuple(content["points"]),
                {name: tuple(map(number, row)) for name, row in content["metrics"].items()},
                batch_norm_recomputed=bool(content.get("batch_norm_recomputed", False)),
                curve=str(content.get("curve", "linear")),
                files=tuple(map(str, content.get("files", ()))),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise FileFormatError(
                f"text: expected a path that fxrebasin wrote, found JSON without one: {error!r}; "
                "write it again with Path.to_json"
            ) from error

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        compare: Path | None = None,
        labels: Sequence[str] | None = None,
        title: str | None = None,
        loss: str = "loss",
    ) -> Figure:
        """Draw the path: one panel per metric, the loss barrier marked with an arrow.

        >>> before = Path((0, 0.5, 1), {"loss": (1.0, 4.0, 2.0)})
        >>> after = Path((0, 0.5, 1), {"loss": (1.0, 1.6, 2.0)})
        >>> figure = before.plot(compare=after, labels=("before", "aligned"))

        Args:
            path: where to write the picture; the ending chooses the format (png, svg, pdf ...).
                It appears there complete or not at all.
            compare: a second path to draw beside this one, usually the one after alignment. Metrics
                that only one of the two has are left out.
            labels: one name for each path; ``("before", "after")`` for two if not given.
            title: a line above the panels.
            loss: what the loss is called, where it is another number.

        Returns:
            The matplotlib figure. Neither pyplot nor any global setting is touched.

        Raises:
            ModuleNotFoundError: matplotlib is missing (``pip install 'fxrebasin[plot]'``).
            InvalidArgumentError: there are not as many labels as paths, the ending is unknown, or
                the paths do not have the same number of legs.
        """
        if compare is not None:
            check_kind(compare, Path, "compare", "a Path or None")
            if compare.points[-1] != self.points[-1]:
                raise InvalidArgumentError(
                    f"compare: expected a path of {self.points[-1]:.0f} legs, found one of "
                    f"{compare.points[-1]:.0f}; draw each alone"
                )
        check_text(loss, "loss", "what the loss is called")
        paths = (self,) if compare is None else (self, compare)
        if labels is None:
            labels = ("",) if compare is None else ("before", "after")
        if isinstance(labels, str) or len(labels) != len(paths):
            raise InvalidArgumentError(f"labels must name {len(paths)} paths, got {labels!r}")
        figure = draw_rows([Row(title or "", tuple(zip(labels, paths, strict=True)), loss)])
        if path is not None:
            save_figure(figure, path)
        return figure
