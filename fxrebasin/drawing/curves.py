"""Draw metrics along paths: a row of panels per comparison, a panel per metric.

The loss panel shows what the barrier is: the straight line between the two end losses (dashed)
and an arrow from it up to the highest point above it. Curves are named where they are
farthest apart, so no legend is needed.

>>> from types import SimpleNamespace
>>> loss = {"loss": (1.0, 4.0, 2.0)}
>>> curve = SimpleNamespace(points=(0, 0.5, 1), metrics=loss, heights=(0.0, 2.5, 0.0))
>>> figure = draw_rows([Row("MLP", (("before", curve),))])
>>> len(figure.axes)
1
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidArgumentError
from .figures import figure_type
from .letters import letter

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Two colours that stay apart for every kind of colour vision, and greys for everything else.
_COLOURS = ("#c8553d", "#1f6f9f")

_INK, _FAINT = "#3a3a3a", "#9a9a9a"
_BETWEEN_MODELS: dict[str, Any] = {"color": _FAINT, "lw": 1.2, "ls": (0, (4, 3)), "zorder": 2}
_BEHIND_TEXT = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}
_ROOM = 0.2
"""What the text beside an arrow takes, as a share of the width of a panel."""
_WIDEST = 2.4
"""Of a panel with many legs, in widths of one with a single leg."""


class Curve(Protocol):
    """What is drawn: metrics at points from model A (t = 0) to model B (t = 1), or on to others,
    one at every whole number."""

    @property
    def points(self) -> Sequence[float]: ...
    @property
    def metrics(self) -> Mapping[str, Sequence[float]]:
        """For each metric, its value at every point; one is "loss"."""

    @property
    def heights(self) -> Sequence[float]:
        """How far the loss lies above the straight line between the models' losses, per point."""


@dataclass(frozen=True)
class Row:
    """One row of panels: a title, and one or two paths with their labels ("" for none)."""

    title: str
    paths: tuple[tuple[str, Curve], ...]
    loss: str = "loss"
    """What the loss is called."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.paths) <= len(_COLOURS):
            raise InvalidArgumentError(f"a row shows one or two paths, got {len(self.paths)}")

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that all paths have, in the order of the first, the loss in front."""
        names = [n for n in self.paths[0][1].metrics if all(n in p.metrics for _, p in self.paths)]
        return tuple(sorted(names, key=lambda name: name != "loss"))

    @property
    def legs(self) -> int:
        """How many ways from model to model there are, one after another."""
        return int(self.paths[0][1].points[-1])


def draw_rows(rows: Sequence[Row]) -> Figure:
    """Draw one row of panels per comparison, one panel per metric.

    Args:
        rows: at least one.

    Returns:
        A matplotlib figure that pyplot knows nothing of.

    Raises:
        ModuleNotFoundError: matplotlib is missing.
        InvalidArgumentError: there are no rows.
    """
    if not rows:
        raise InvalidArgumentError("there are no rows to draw")
    new_figure = figure_type()
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    columns = max(len(row.metrics) for row in rows)
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    width = 5.6 * min(1 + 0.35 * (max(row.legs for row in rows) - 1), _WIDEST)
    figure = new_figure(figsize=(width * columns, 3.9 * len(rows)), dpi=150, layout=layout)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for row, panels in zip(rows, grid, strict=True):
        for panel in panels[len(row.metrics) :]:
            panel.remove()
        for metric, panel in zip(row.metrics, panels, strict=False):
            _draw_metric(panel, row, metric)
    return figure


def _draw_metric(panel: Axes, row: Row, metric: str) -> None:
    curves = [np.array(path.metrics[metric]) for _, path in row.paths]
    for (_, path), values, colour in zip(row.paths, curves, _COLOURS, strict=False):
        panel.plot(path.points, values, color=colour, lw=2.2, marker="o", ms=4.5, zorder=3)
    labels = [label for label, _ in row.paths]
    if metric == "loss":
        for _, path in row.paths:
            panel.plot(*_at_models(path, path.metrics["loss"]), **_BETWEEN_MODELS)
        low, high = panel.get_ylim()
        is_seen = [_barrier(path) >= 0.15 * (high - low) for _, path in row.paths]
        sides = _sides_of_arrows([path for _, path in compress(row.paths, is_seen)])
        for number, (label, path) in enumerate(row.paths):
            if is_seen[number]:
                _draw_barrier(panel, path, _COLOURS[number], sides.pop(0))
            elif label:
                labels[number] = f"{label} (barrier {_barrier(path):.2g})"
    _dress(panel, row, metric, curves)
    _name_curves(panel, row, curves, labels)


def _barrier(path: Curve) -> float:
    return float(np.max(path.heights))


Side = Literal["left", "center", "right"]


def _sides_of_arrows(paths: Sequence[Curve]) -> list[Side]:
    """Which end of its text an arrow meets: the middle, unless another arrow is too close."""
    tops = [path.points[int(np.argmax(path.heights))] / path.points[-1] for path in paths]
    if len(tops) < 2 or abs(tops[0] - tops[1]) > _ROOM:
        return ["center"] * len(tops)
    return ["right", "left"] if tops[0] <= tops[1] else ["left", "right"]


def _draw_barrier(panel: Axes, path: Curve, colour: str, side: Side) -> None:
    """Draw an arrow from the line between the models' losses to the highest point above it."""
    barrier, top = _barrier(path), int(np.argmax(path.heights))
    t, loss = path.points[top], path.metrics["loss"][top]
    panel.annotate(
        "",
        xy=(t, loss),
        xytext=(t, loss - barrier),
        arrowprops={"arrowstyle": "<|-|>", "color": colour, "lw": 1.3, "shrinkA": 0, "shrinkB": 3},
        zorder=4,
    )
    panel.annotate(
        f"barrier\n{barrier:.3g}",
        xy=(t, loss - 0.65 * barrier),  # low on the arrow, where a narrow hill leaves more room
        xytext=({"left": 6, "center": 0, "right": -6}[side], 0),
        textcoords="offset points",
        ha=side,
        va="center",
        color=colour,
        fontweight="bold",
        bbox=_BEHIND_TEXT,
        zorder=5,
    )


def _at_models(path: Curve, values: Sequence[float]) -> tuple[list[float], list[float]]:
    """The points where models are, and the values there."""
    found = [(t, v) for t, v in zip(path.points, values, strict=True) if t == int(t)]
    return [t for t, _ in found], [v for _, v in found]


def _name_curves(
    panel: Axes, row: Row, curves: Sequence[NDArray[np.float64]], labels: Sequence[str]
) -> None:
    """Write each curve's label beside it, where the curves are farthest apart."""
    for number, ((_, path), values) in enumerate(zip(row.paths, curves, strict=True)):
        points = np.array(path.points)
        line = np.interp(points, *_at_models(path, values.tolist()))
        rival = line
        if len(curves) == 2:
            other = row.paths[1 - number][1]
            rival = np.interp(points, other.points, curves[1 - number])
        gap = np.where(np.isfinite(values - rival), values - rival, 0)
        spot = int(np.argmax(np.abs(gap)))
        if not labels[number] or not np.isfinite(values[spot]):
            continue
        # Level curves part by their number, so that the two labels never lie on each other.
        upwards = gap[spot] > 0 if gap[spot] else number == 0
        panel.annotate(
            labels[number],
            xy=(points[spot], values[spot]),
            xytext=(0, 10 if upwards else -11),
            textcoords="offset points",
            ha=_away_from_edges(points[spot] / points[-1]),
            va="bottom" if upwards else "top",
            color=_COLOURS[number],
            fontweight="bold",
            bbox=_BEHIND_TEXT,
            zorder=6,
        )


def _away_from_edges(share: float) -> Side:
    """How a text at a share of the width is aligned, for it to stay in the panel."""
    return "left" if share < 0.2 else "right" if share > 0.8 else "center"


def _dress(panel: Axes, row: Row, metric: str, curves: Sequence[NDArray[np.float64]]) -> None:
    """Axes, grid and margins; a share between 0 and 1 is shown in percent."""
    from matplotlib.ticker import PercentFormatter

    name = row.loss if metric == "loss" else metric
    panel.set_title(f"{row.title}: {name}" if row.title else name, loc="left", color=_INK)
    if row.legs == 1:
        panel.set_xticks((0, 0.25, 0.5, 0.75, 1), ("A", "¼", "½", "¾", "B"))
    else:
        panel.set_xticks(range(row.legs + 1), [letter(k) for k in range(row.legs + 1)])
        panel.grid(axis="x", color="#e6e6e6", lw=0.8)
    panel.set_xlim(-0.04 * row.legs, 1.04 * row.legs)
    panel.margins(y=0.17)
    values = np.concatenate(curves)
    if "accuracy" in metric and np.nanmin(values) >= 0 and np.nanmax(values) <= 1:
        panel.yaxis.set_major_formatter(PercentFormatter(1))
    panel.grid(axis="y", color="#e6e6e6", lw=0.8)
    panel.set_axisbelow(True)
    panel.tick_params(length=0, colors=_INK)
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.spines["bottom"].set_color(_FAINT)
