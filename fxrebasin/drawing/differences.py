"""Draw what alignment has changed: a row per parameter with two dots, and a row per block.

>>> cosines = [Dumbbell("0.weight", 0.1, 0.8), Dumbbell("1.weight", 0.2, 0.7)]
>>> figure = draw_differences(cosines, [], [Match("0.weight[0]", 8, 0.75, 0.5)])
>>> len(figure.axes)
2
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .figures import figure_type

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BEFORE, _AFTER = "#c8553d", "#1f6f9f"
_INK, _FAINT, _PALE = "#3a3a3a", "#9a9a9a", "#d3e4f1"
_ROW, _TALLEST = 0.22, 60.0
"""Inches: of a row, and of a figure; rows of a taller one are closer together."""
_LONGEST = 34
"""Characters of a name that are shown, its end, where names differ most."""


@dataclass(frozen=True)
class Dumbbell:
    """A value before and after; None where it does not apply."""

    name: str
    before: float | None
    after: float | None


@dataclass(frozen=True)
class Match:
    """A block: its units, the share that moved, and how distinct the match is, None if unknown."""

    name: str
    units: int
    moved: float
    distinctness: float | None


def draw_differences(
    cosines: Sequence[Dumbbell],
    variances: Sequence[Dumbbell],
    matches: Sequence[Match],
    *,
    title: str = "",
) -> Figure:
    """Draw panels of cosines, of variances, if there are any, and of blocks.

    Args:
        cosines: a row for each parameter.
        variances: for the same parameters; the panel is left out where none applies.
        matches: a row for each block.
        title: above the panels.

    Returns:
        A matplotlib figure that pyplot knows nothing of.

    Raises:
        ModuleNotFoundError: matplotlib is missing.
    """
    new_figure = figure_type()
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    measured = any(row.after is not None or row.before is not None for row in variances)
    rows = max(len(cosines), len(matches), 4)
    height = min(1.3 + _ROW * rows, _TALLEST)
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    widths = [4.6, 3.4, 4.6] if measured else [4.6, 4.6]
    figure = new_figure(figsize=(sum(widths), height), dpi=150, layout=layout)
    panels = [*figure.subplots(1, len(widths), width_ratios=widths)]
    font = min(8.0, 72 * 0.8 * (height - 1.3) / rows)
    _draw_dumbbells(panels[0], cosines, "cosine between A and B", font)
    if measured:
        _draw_dumbbells(panels[1], variances, "variance half way / at the ends", font)
        panels[1].set_yticks([])
        panels[1].axvline(1, color=_FAINT, lw=1.2, ls=(0, (4, 3)), zorder=1)
    _draw_matches(panels[-1], matches, font)
    for panel in panels:
        panel.set_ylim(rows - 0.4, -0.6)  # the first row on top, and rows of one height
    _name_colours(panels[0])
    if title:
        figure.suptitle(title, color=_INK, x=0.01, ha="left")
    return figure


def _draw_dumbbells(panel: Axes, rows: Sequence[Dumbbell], title: str, font: float) -> None:
    for k, row in enumerate(rows):
        if row.before is not None and row.after is not None:
            panel.plot((row.before, row.after), (k, k), color="#cccccc", lw=1.6, zorder=2)
        if row.before is not None:
            panel.plot(row.before, k, "o", color="white", mec=_BEFORE, mew=1.4, ms=5, zorder=3)
        if row.after is not None:
            panel.plot(row.after, k, "o", color=_AFTER, ms=5.5, zorder=4)
    _dress(panel, [row.name for row in rows], title, font)


def _draw_matches(panel: Axes, matches: Sequence[Match], font: float) -> None:
    from matplotlib.ticker import PercentFormatter

    places = range(len(matches))
    moved = [match.moved for match in matches]
    panel.barh(places, moved, height=0.62, color=_PALE, zorder=2)
    for k, match in enumerate(matches):
        if match.distinctness is not None:
            spot = min(max(match.distinctness, 0.0), 1.0)
            panel.plot(spot, k, "D", color=_INK, ms=3.6, zorder=3, clip_on=False)
    names = [f"{_short(match.name)}  {match.units:,}" for match in matches]
    _dress(panel, names, "units moved (bar), distinctness (diamond)", font, shorten=False)
    panel.set_xlim(0, 1.04)
    panel.xaxis.set_major_formatter(PercentFormatter(1))


def _dress(
    panel: Axes, names: Sequence[str], title: str, font: float, *, shorten: bool = True
) -> None:
    """A name at each row, and lines only where values are read off."""
    panel.set_title(title, loc="left", color=_INK, fontsize=9.5)
    shown = [_short(name) for name in names] if shorten else names
    panel.set_yticks(range(len(names)), shown, fontsize=font, parse_math=False)
    panel.grid(axis="x", color="#e6e6e6", lw=0.8)
    panel.set_axisbelow(True)
    panel.tick_params(length=0, colors=_INK)
    panel.tick_params(axis="x", labelsize=8)
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.spines["bottom"].set_color(_FAINT)


def _name_colours(panel: Axes) -> None:
    from matplotlib.lines import Line2D

    dots = [
        Line2D([], [], marker="o", ls="", color="white", mec=_BEFORE, mew=1.4, ms=5),
        Line2D([], [], marker="o", ls="", color=_AFTER, ms=5.5),
    ]
    panel.figure.legend(
        dots,
        ("before", "aligned"),
        loc="outside lower left",
        ncols=2,
        frameon=False,
        fontsize=8,
        labelcolor=_INK,
        handletextpad=0.2,
    )


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"…{name[1 - _LONGEST :]}"
