"""What was measured along the line between two models, and how it is shown.

>>> path = Path((0, 0.5, 1), {"loss": (1.0, 4.0, 2.0)})
>>> path.barrier
2.5
"""

from __future__ import annotations

import html
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..drawing.curves import Row, draw_rows
from ..drawing.figures import save_figure
from ..errors import InvalidArgumentError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Path:
    """Metrics at points of the line from model A (t = 0) to model B (t = 1).

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

    Args:
        points: the values of t, increasing from exactly 0 to exactly 1.
        metrics: for each metric, its value at every point. ``"loss"`` must be among them.
        batch_norm_recomputed: whether BatchNorm statistics were measured afresh at every point.

    Raises:
        InvalidArgumentError: the points or metrics are not as described.
    """

    points: tuple[float, ...]
    metrics: Mapping[str, tuple[float, ...]]
    batch_norm_recomputed: bool = False

    def __post_init__(self) -> None:
        points = tuple(float(t) for t in self.points)
        metrics = {name: tuple(float(v) for v in row) for name, row in self.metrics.items()}
        if points[:1] != (0.0,) or points[-1:] != (1.0,) or sorted(set(points)) != [*points]:
            raise InvalidArgumentError(f"points must increase from 0 to 1, got {points}")
        if "loss" not in metrics:
            raise InvalidArgumentError(f"metrics must have 'loss', got {[*metrics]}")
        for name, row in metrics.items():
            if len(row) != len(points):
                raise InvalidArgumentError(
                    f"metric {name!r} has {len(row)} values for {len(points)} points"
                )
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "metrics", metrics)

    @property
    def losses(self) -> tuple[float, ...]:
        """The loss at every point."""
        return self.metrics["loss"]

    @property
    def heights(self) -> tuple[float, ...]:
        """How far the loss lies above the straight line between the two end losses, per point.

        Source: Entezari et al., The Role of Permutation Invariance in Linear Mode Connectivity of
        Neural Networks, ICLR 2022, definition 2.1. (Frankle et al., Linear Mode Connectivity and
        the Lottery Ticket Hypothesis, ICML 2020, take the mean of the two ends for the line.)
        """
        first, last = self.losses[0], self.losses[-1]
        return tuple(
            loss - ((1 - t) * first + t * last)
            for t, loss in zip(self.points, self.losses, strict=True)
        )

    @property
    def barrier(self) -> float:
        """The loss barrier: the greatest of ``heights``. It is nan if any of them is."""
        return float(np.max(self.heights))

    @property
    def midpoint(self) -> dict[str, float]:
        """Every metric at t = 0.5."""
        if 0.5 not in self.points:
            raise InvalidArgumentError(f"the path has no point t = 0.5, only {self.points}")
        middle = self.points.index(0.5)
        return {name: row[middle] for name, row in self.metrics.items()}

    def __str__(self) -> str:
        widths = [max(9, len(name)) for name in self.metrics]
        lines = [self._headline(), _table_row("t", self.metrics, widths)]
        for t, *values in zip(self.points, *self.metrics.values(), strict=True):
            lines.append(_table_row(f"{t:.3f}", (f"{v:.4g}" for v in values), widths))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        def row(tag: str, cells: Iterable[str]) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

        body = (
            row("td", (f"{t:.3f}", *(f"{v:.4g}" for v in values)))
            for t, *values in zip(self.points, *self.metrics.values(), strict=True)
        )
        return (
            f"<table><caption>{html.escape(self._headline())}</caption>"
            f"<thead>{row('th', ('t', *self.metrics))}</thead>"
            f"<tbody>{''.join(body)}</tbody></table>"
        )

    def _headline(self) -> str:
        top = self.points[int(np.argmax(self.heights))]
        recomputed = ", BatchNorm statistics recomputed" if self.batch_norm_recomputed else ""
        return (
            f"path from A (t = 0) to B (t = 1){recomputed}: "
            f"loss barrier {self.barrier:.4g} at t = {top:.3g}"
        )

    def to_json(self) -> str:
        """Write the path as JSON text. What JSON has no number for (nan, infinity) becomes null.

        >>> Path((0, 1), {"loss": (0.5, float("nan"))}).to_json()
        '{"points": [0.0, 1.0], "metrics": {"loss": [0.5, null]}, "barrier": null, "batch_norm_recomputed": false}'
        """  # noqa: E501 (one line of output)

        def finite(value: float) -> float | None:
            return value if math.isfinite(value) else None

        return json.dumps(
            {
                "points": self.points,
                "metrics": {name: [finite(v) for v in row] for name, row in self.metrics.items()},
                "barrier": finite(self.barrier),
                "batch_norm_recomputed": self.batch_norm_recomputed,
            }
        )

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        compare: Path | None = None,
        labels: Sequence[str] | None = None,
        title: str | None = None,
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

        Returns:
            The matplotlib figure. Neither pyplot nor any global setting is touched.

        Raises:
            ModuleNotFoundError: matplotlib is missing (``pip install 'fxrebasin[plot]'``).
            InvalidArgumentError: there are not as many labels as paths, or the ending is unknown.
        """
        paths = (self,) if compare is None else (self, compare)
        if labels is None:
            labels = ("",) if compare is None else ("before", "after")
        if isinstance(labels, str) or len(labels) != len(paths):
            raise InvalidArgumentError(f"labels must name {len(paths)} paths, got {labels!r}")
        figure = draw_rows([Row(title or "", tuple(zip(labels, paths, strict=True)))])
        if path is not None:
            save_figure(figure, path)
        return figure


def _table_row(first: str, cells: Iterable[str], widths: Sequence[int]) -> str:
    padded = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
    return f"{first:>6} {' '.join(padded)}"
