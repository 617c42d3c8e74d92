"""Draw a metric on a plane as contours, with the three models that the plane leads through.

>>> import numpy as np
>>> x, y = np.linspace(-1, 2, 7), np.linspace(-1, 2, 7)
>>> spots = [("A", (0.0, 0.0)), ("B", (1.0, 0.0)), ("C", (0.5, 1.0))]
>>> figure = draw_plane((x, y), 0.1 + x[None] ** 2 + y[:, None] ** 2, spots, title="loss")
>>> len(figure.axes)  # the plane, and its scale
2
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .figures import figure_type

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _FAINT = "#3a3a3a", "#9a9a9a"
_COLOURS = "cividis"
"""From dark to light as the values rise; the same for every kind of colour vision."""
_FACTOR = 4.0
"""Positive values whose greatest is more than so many times the least get logarithmic levels."""
_HEIGHTS = (2.6, 7.0)
"""The least and greatest height of the plane in inches, at a width of 5.6."""


def draw_plane(
    axes: tuple[Sequence[float] | NDArray[np.float64], Sequence[float] | NDArray[np.float64]],
    values: NDArray[np.float64],
    spots: Sequence[tuple[str, tuple[float, float]]],
    *,
    levels: int = 14,
    logarithmic: bool = True,
    title: str = "",
) -> Figure:
    """Draw filled contours, lines between the models, and the models with their names.

    Args:
        axes: the places of columns and of rows, increasing.
        values: shape ``(rows, columns)``; what is no finite number stays white.
        spots: the models, with their names and places.
        levels: how many bands of colour.
        logarithmic: space the levels of positive values that differ much by their logarithms.
        title: above the picture.

    Returns:
        A matplotlib figure that pyplot knows nothing of.

    Raises:
        ModuleNotFoundError: matplotlib is missing.
    """
    new_figure = figure_type()
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    x, y = (np.asarray(places, dtype=float) for places in axes)
    height = float(np.clip(5.6 * (y[-1] - y[0]) / (x[-1] - x[0]), *_HEIGHTS))
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    figure = new_figure(figsize=(6.9, height + 0.8), dpi=150, layout=layout)
    panel = figure.subplots()
    _draw_contours(
        panel, x, y, np.where(np.isfinite(values), values, np.nan), (levels, logarithmic)
    )
    _draw_models(panel, spots)
    panel.set_title(title, loc="left", color=_INK)
    panel.set_aspect("equal" if _is_squarish(x, y) else "auto")
    panel.set_xlim(x[0], x[-1])
    panel.set_ylim(y[0], y[-1])
    panel.set_xlabel("distance in weight space", color=_INK)
    panel.tick_params(length=0, colors=_INK, labelsize=8)
    panel.spines[:].set_visible(False)
    return figure


def _is_squarish(x: NDArray[np.float64], y: NDArray[np.float64]) -> bool:
    """Can both axes have one scale in the figure?"""
    return _HEIGHTS[0] <= 5.6 * (y[-1] - y[0]) / (x[-1] - x[0]) <= _HEIGHTS[1]


def _draw_contours(
    panel: Axes,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    values: NDArray[np.float64],
    levels: tuple[int, bool],
) -> None:
    from matplotlib.colors import BoundaryNorm
    from matplotlib.ticker import FuncFormatter

    known = values[np.isfinite(values)]
    if not known.size or known.min() == known.max():
        text = f"{known.min():.4g} everywhere" if known.size else "nan everywhere"
        panel.text(0.5, 0.04, text, transform=panel.transAxes, ha="center", color=_FAINT)
        return
    edges = _levels(known, *levels)
    shown, norm = np.ma.masked_invalid(values), BoundaryNorm(edges, 256)
    filled = panel.contourf(x, y, shown, levels=edges, cmap=_COLOURS, norm=norm, zorder=1)
    panel.contour(x, y, shown, levels=edges, colors="white", linewidths=0.5, alpha=0.6, zorder=2)
    ticks = edges[:: max(len(edges) // 8, 1)]
    scale = panel.figure.colorbar(filled, ax=panel, shrink=0.92, pad=0.02, ticks=ticks)
    scale.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    scale.ax.tick_params(length=0, colors=_INK, labelsize=8)
    scale.outline.set_visible(False)


def _levels(known: NDArray[np.float64], count: int, logarithmic: bool) -> NDArray[np.float64]:
    """From the least value to the greatest, evenly spaced, or their logarithms are."""
    low, high = float(known.min()), float(known.max())
    by_factors = logarithmic and low > 0 and high > _FACTOR * low
    edges = (np.geomspace if by_factors else np.linspace)(low, high, count + 1)
    edges[0], edges[-1] = low, high  # but for rounding, which would leave the extremes out
    return np.unique(edges)


def _draw_models(panel: Axes, spots: Sequence[tuple[str, tuple[float, float]]]) -> None:
    places = np.array([spot for _, spot in spots])
    around = np.vstack([places, places[:1]])
    panel.plot(*around.T, color="white", lw=2.6, alpha=0.8, zorder=3)
    panel.plot(*around.T, color=_INK, lw=1.2, ls=(0, (4, 3)), zorder=4)
    centre = places.mean(0)
    for name, place in spots:
        out = np.array(place) - centre
        right, up = (0.0 if not np.any(out) else v / np.abs(out).max() for v in out)
        panel.plot(*place, marker="o", ms=9, color="white", mec=_INK, mew=1.6, zorder=5)
        panel.annotate(
            name,
            xy=place,
            xytext=(11 * right, 11 * up),
            textcoords="offset points",
            ha="left" if right > 0.3 else "right" if right < -0.3 else "center",
            va="bottom" if up > 0.3 else "top" if up < -0.3 else "center",
            color=_INK,
            fontweight="bold",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.85},
            zorder=6,
        )
