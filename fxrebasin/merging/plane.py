"""What was measured on the plane through three models, and how it is shown.

>>> metrics = {"loss": ((3.0, 2.0), (1.0, 4.0))}
>>> corners = ((0.0, 0.0), (1.0, 0.0), (0.5, 1.0))
>>> plane = Plane((0, 1), (0, 1), metrics, corners, {"loss": (3.0, 2.0, 2.5)})
>>> plane.best()
(0.0, 1.0, 1.0)
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..arguments import check_items, check_text, refuse
from ..drawing.figures import save_figure
from ..drawing.planes import draw_plane
from ..drawing.tables import html_table, text_table
from ..errors import FileFormatError, InvalidArgumentError
from .tables import csv_text, finite, handed_over, number, read_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Spot = tuple[float, float]
NAMES = ("A", "B", "C")


@dataclass(frozen=True)
class Plane:
    """Metrics on a grid of the plane through models A, B and C, and at the three of them.

    The two axes are at a right angle, and lengths are distances in weight space: A is at the
    origin, B on the first axis, C on the side of the second.

    Args:
        x: the columns' places on the first axis, increasing, at least 2.
        y: the rows' places on the second axis, increasing, at least 2.
        metrics: for each metric, its values, a tuple per row. ``"loss"`` must be among them.
        corners: where the three models are.
        at_corners: for each metric, its value at the three models as they are.
        batch_norm_recomputed: whether BatchNorm statistics were measured afresh at every point.

    Raises:
        InvalidArgumentError: sizes do not fit, or the loss is missing.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    metrics: Mapping[str, tuple[tuple[float, ...], ...]]
    corners: tuple[Spot, Spot, Spot]
    at_corners: Mapping[str, tuple[float, float, float]]
    batch_norm_recomputed: bool = False

    def __post_init__(self) -> None:
        for axis in ("x", "y"):
            places = tuple(map(float, getattr(self, axis)))
            if len(places) < 2 or sorted(set(places)) != [*places]:
                raise InvalidArgumentError(
                    f"{axis}: expected places that increase, at least 2, found {places}"
                )
            object.__setattr__(self, axis, places)
        corners = tuple(tuple(map(float, spot)) for spot in self.corners)
        if len(corners) != len(NAMES) or any(len(spot) != 2 for spot in corners):
            raise InvalidArgumentError(f"corners: expected 3 places, found {corners}")
        metrics = {
            name: tuple(tuple(map(float, row)) for row in rows)
            for name, rows in self.metrics.items()
        }
        if "loss" not in metrics or metrics.keys() != self.at_corners.keys():
            raise InvalidArgumentError(
                f"metrics: expected 'loss' and the same in at_corners, found {[*metrics]} and "
                f"{[*self.at_corners]}"
            )
        shape = (len(self.y), len(self.x))
        for name, rows in metrics.items():
            if [len(row) for row in rows] != [shape[1]] * shape[0]:
                raise InvalidArgumentError(
                    f"metrics: expected {shape[0]} rows of {shape[1]} values of {name!r}, found "
                    f"{[len(row) for row in rows]}"
                )
        object.__setattr__(self, "corners", corners)
        object.__setattr__(self, "metrics", metrics)
        object.__setattr__(
            self, "at_corners", {n: tuple(map(float, v)) for n, v in self.at_corners.items()}
        )

    def grid(self, metric: str = "loss") -> NDArray[np.float64]:
        """The values of a metric as an array, a row for each place on the second axis.

        Raises:
            InvalidArgumentError: there is no such metric.
        """
        check_text(metric, "metric", f"one of {[*self.metrics]}")
        if metric not in self.metrics:
            refuse("metric", f"one of {[*self.metrics]}", metric)
        return np.array(self.metrics[metric])

    def best(self, metric: str = "loss", mode: str = "min") -> tuple[float, float, float]:
        """Where on the grid a metric is best, as ``(x, y, value)``; nan is never best.

        Args:
            metric: one of ``metrics``.
            mode: ``"min"`` if less is better, ``"max"`` if more is.

        Raises:
            InvalidArgumentError: there is no such metric or mode, or the metric is nan everywhere.
        """
        values = self.grid(metric)
        check_text(mode, "mode", "'min' or 'max'")
        if mode not in ("min", "max"):
            refuse("mode", "'min' or 'max'", mode)
        if np.isnan(values).all():
            raise InvalidArgumentError(f"metric: expected one with numbers, found {metric!r}, nan")
        flat = np.nanargmin(values) if mode == "min" else np.nanargmax(values)
        i, k = np.unravel_index(int(flat), values.shape)
        return self.x[k], self.y[i], float(values[i, k])

    def __str__(self) -> str:
        head = ("model", "x", "y", *self.at_corners)
        return f"{self._headline()}\n{text_table(head, self._corner_rows(), left=1, indent='  ')}"

    def _repr_html_(self) -> str:
        head = ("model", "x", "y", *self.at_corners)
        return html_table(self._headline(), head, self._corner_rows())

    def _headline(self) -> str:
        losses = self.grid()
        if np.isnan(losses).all():
            span = "loss nan"
        else:
            span = f"loss {np.nanmin(losses):.4g} to {np.nanmax(losses):.4g}"
        recomputed = ", BatchNorm statistics recomputed" if self.batch_norm_recomputed else ""
        return f"plane of {len(self.x)} x {len(self.y)} points{recomputed}: {span}"

    def _corner_rows(self) -> list[tuple[str, ...]]:
        columns = zip(NAMES, self.corners, *self.at_corners.values(), strict=True)
        return [
            (name, f"{x:.4g}", f"{y:.4g}", *(f"{v:.4g}" for v in values))
            for name, (x, y), *values in columns
        ]

    def _points(self) -> Iterator[tuple[float, ...]]:
        for i, y in enumerate(self.y):
            for k, x in enumerate(self.x):
                yield (x, y, *(rows[i][k] for rows in self.metrics.values()))

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> str:
        """Write the plane as comma-separated values: the three models, then the grid, row by row.

        The first column names the models, and is empty for points of the grid.

        Args:
            path: a file to write as well; it appears complete or not at all.

        Returns:
            The text.

        Raises:
            InvalidArgumentError: ``path`` names no file.
            OSError: the folder is missing or cannot be written.
        """
        models = zip(NAMES, self.corners, *self.at_corners.values(), strict=True)
        rows: list[tuple[Any, ...]] = [(name, *spot, *values) for name, spot, *values in models]
        rows += [("", *point) for point in self._points()]
        return handed_over(csv_text(("model", "x", "y", *self.metrics), rows), path)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Write the plane as JSON text. What JSON has no number for (nan, infinity) becomes null.

        Args:
            path: a file to write as well; it appears complete or not at all.

        Returns:
            The text, which :meth:`from_json` reads.

        Raises:
            InvalidArgumentError: ``path`` names no file.
            OSError: the folder is missing or cannot be written.
        """
        content = {
            "x": self.x,
            "y": self.y,
            "metrics": {
                name: [[finite(v) for v in row] for row in rows]
                for name, rows in self.metrics.items()
            },
            "corners": self.corners,
            "at_corners": {n: [finite(v) for v in row] for n, row in self.at_corners.items()},
            "batch_norm_recomputed": self.batch_norm_recomputed,
        }
        return handed_over(json.dumps(content), path)

    @classmethod
    def from_json(cls, text: str) -> Plane:
        """Read what :meth:`to_json` wrote; null becomes nan.

        Raises:
            InvalidArgumentError: it is no text.
            FileFormatError: it is not such a plane.
        """
        content = read_json(text, "Plane")
        try:
            return cls(
                tuple(content["x"]),
                tuple(content["y"]),
                {
                    name: tuple(tuple(map(number, row)) for row in rows)
                    for name, rows in content["metrics"].items()
                },
                content["corners"],
                {n: tuple(map(number, row)) for n, row in content["at_corners"].items()},  # type: ignore[misc]
                batch_norm_recomputed=bool(content.get("batch_norm_recomputed", False)),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise FileFormatError(
                f"text: expected a plane that fxrebasin wrote, found JSON without one: {error!r}; "
                "write it again with Plane.to_json"
            ) from error

    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        metric: str = "loss",
        levels: int = 14,
        labels: Sequence[str] = NAMES,
        title: str | None = None,
    ) -> Figure:
        """Draw a metric as contours, with the three models and the lines between them.

        Levels of a metric that is positive everywhere, and some times as large in one place as in
        another, are evenly spaced in its logarithm, so that basins show beside mountains; those of
        metrics with ``accuracy`` in their names are not.

        Args:
            path: where to write the picture; the ending chooses the format (png, svg, pdf ...).
                It appears there complete or not at all.
            metric: one of ``metrics``.
            levels: how many bands of colour, at least 2.
            labels: what the three models are called.
            title: a line above the picture.

        Returns:
            The matplotlib figure. Neither pyplot nor any global setting is touched.

        Raises:
            ModuleNotFoundError: matplotlib is missing (``pip install 'fxrebasin[plot]'``).
            InvalidArgumentError: there is no such metric, no three labels, or the ending is
                unknown.
        """
        values = self.grid(metric)
        if isinstance(levels, bool) or not isinstance(levels, int) or levels < 2:
            refuse("levels", "a whole number, at least 2", levels)
        check_items(labels, str, "labels", "names of the three models")
        if len(labels) != len(NAMES):
            refuse("labels", "a list of 3 names", labels)
        spots = [*zip(labels, self.corners, strict=True)]
        heading = metric if title is None else f"{title}: {metric}"
        figure = draw_plane(
            (self.x, self.y),
            values,
            spots,
            levels=levels,
            logarithmic="accuracy" not in metric,
            title=heading,
        )
        if path is not None:
            save_figure(figure, path)
        return figure
