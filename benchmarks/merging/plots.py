"""The pictures of the studies: lines, dots and heat maps in one style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fxrebasin.drawing.figures import figure_type

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#9a9a9a", "#c8553d", "#e69f00", "#56b4e9", "#1f6f9f", "#009e73", "#7b4fa3", "#3a3a3a")
INK, FAINT = "#3a3a3a", "#9a9a9a"


@dataclass(frozen=True)
class Curve:
    """Points, several of them for several seeds, and how they are drawn."""

    label: str
    x: Sequence[float]
    ys: Sequence[Sequence[float]]
    colour: str
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """One set of axes."""

    title: str
    curves: Sequence[Curve]
    x: str = ""
    y: str = ""
    ends: tuple[str, str] | None = None
    """What the first and the last place on the horizontal axis are called."""
    ticks: Sequence[int] | None = None
    percent: bool = False
    logarithmic: bool = False
    limits: tuple[float, float] | None = None
    """Where the vertical axis begins and ends, if not around all curves."""


@dataclass(frozen=True)
class Map:
    """A figure over two options, as a table of colours."""

    title: str
    values: Sequence[Sequence[float]]
    """A row per vertical tick."""
    x: Sequence[str]
    y: Sequence[str]
    form: str = ".2f"
    limits: tuple[float, float] | None = None


def new_figure(columns: int, rows: int = 1, *, width: float = 5.6, height: float = 4.2) -> Figure:
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    return figure_type()(figsize=(width * columns, height * rows), dpi=130, layout=layout)


def draw_panels(
    rows: Sequence[Sequence[Panel]], *, width: float = 5.6, height: float = 4.2
) -> Figure:
    """Curves in panels; what is in them is named once, below."""
    columns = max(map(len, rows))
    figure = new_figure(columns, len(rows), width=width, height=height)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    named: dict[str, Artist] = {}
    for panels, places in zip(rows, grid, strict=True):
        for place in places[len(panels) :]:
            place.remove()
        for panel, place in zip(panels, places, strict=False):
            _draw(place, panel, named)
    _name(figure, named, columns=min(len(named), 2 * columns))
    return figure


def _draw(place: Axes, panel: Panel, named: dict[str, Artist]) -> None:
    for curve in panel.curves:
        style = (0, (3, 2)) if curve.dashed else "-"
        for y in curve.ys:
            marker = "o" if len(y) < 20 else ""
            (drawn,) = place.plot(
                curve.x, y, color=curve.colour, lw=1.8, marker=marker, ms=4, ls=style
            )
            named.setdefault(curve.label, drawn)
    dress(place, panel.title)
    place.set_xlabel(panel.x, color=INK)
    place.set_ylabel(panel.y, color=INK)
    if panel.logarithmic:
        place.set_yscale("log")
    if panel.limits:
        place.set_ylim(*panel.limits)
    if panel.ticks:
        place.set_xticks(panel.ticks)
    if panel.ends:
        place.set_xticks((0, 0.5, 1), (panel.ends[0], "½", panel.ends[1]))
    if panel.percent:
        from matplotlib.ticker import PercentFormatter

        place.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def dress(place: Axes, title: str) -> None:
    """Title, grid and ink of a set of axes."""
    place.set_title(title, loc="left", color=INK, fontsize=11)
    place.grid(axis="y", color="#e6e6e6", lw=0.8)
    place.set_axisbelow(True)
    place.tick_params(length=0, colors=INK, which="both")
    place.spines[["top", "right", "left"]].set_visible(False)
    place.spines["bottom"].set_color(FAINT)


def draw_maps(rows: Sequence[Sequence[Map]], *, x: str, y: str) -> Figure:
    """Heat maps, every entry with its figure."""
    columns = max(map(len, rows))
    size = max(len(m.x) for row in rows for m in row)
    tall = max(len(m.y) for row in rows for m in row)
    label = max(len(text) for row in rows for m in row for text in m.x)
    width, height = 1.8 + (0.4 + 0.08 * label) * size, 1.3 + 0.42 * tall
    figure = new_figure(columns, len(rows), width=width, height=height)
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for maps, places in zip(rows, grid, strict=True):
        for place in places[len(maps) :]:
            place.remove()
        for shown, place in zip(maps, places, strict=False):
            _draw_map(place, shown)
            place.set_xlabel(x, color=INK)
            place.set_ylabel(y, color=INK)
    return figure


def _draw_map(place: Axes, shown: Map) -> None:
    low, high = shown.limits or (
        min(map(min, shown.values)),
        max(map(max, shown.values)),
    )
    place.imshow(shown.values, cmap="YlGnBu", vmin=low, vmax=high, aspect="auto")
    for row, values in enumerate(shown.values):
        for column, value in enumerate(values):
            dark = value > low + 0.45 * (high - low)
            place.text(
                column,
                row,
                format(value, shown.form),
                ha="center",
                va="center",
                fontsize=8,
                color="white" if dark else INK,
            )
    place.set_title(shown.title, loc="left", color=INK, fontsize=11)
    for count, draw in ((len(shown.x), place.axvline), (len(shown.y), place.axhline)):
        for k in range(1, count):
            draw(k - 0.5, color="white", lw=1.5)
    place.set_xticks(range(len(shown.x)), shown.x)
    place.set_yticks(range(len(shown.y)), shown.y)
    place.tick_params(length=0, colors=INK)
    place.spines[:].set_visible(False)


def draw_dots(groups: Mapping[str, Mapping[str, Mapping[str, float]]], *, x: str) -> Figure:
    """A row of dots per label in every group; what a dot is of is told by its colour, below."""
    kinds = list(dict.fromkeys(k for rows in groups.values() for row in rows.values() for k in row))
    colours = dict(zip(kinds, (COLOURS[k] for k in (1, 2, 3, 4, 5, 6)), strict=False))
    height = 1.6 + 0.30 * max(map(len, groups.values()))
    figure = new_figure(len(groups), height=height, width=5.2)
    (places,) = figure.subplots(1, len(groups), squeeze=False, sharey=True, sharex=True)
    named: dict[str, Artist] = {}
    for (title, rows), place in zip(groups.items(), places, strict=True):
        for row, values in enumerate(rows.values()):
            place.hlines(row, 0, max(values.values()), color="#e6e6e6", lw=1, zorder=1)
            for kind, value in values.items():
                (drawn,) = place.plot(value, row, "o", color=colours[kind], ms=7, alpha=0.9)
                named.setdefault(kind, drawn)
        dress(place, title)
        place.grid(visible=False)
        place.set_yticks(range(len(rows)), rows)
        place.set_ylim(len(rows) - 0.5, -0.5)
        place.set_xlim(left=0)
        place.set_xlabel(x, color=INK)
    _name(figure, named, columns=len(kinds))
    return figure


def _name(figure: Figure, named: Mapping[str, Artist], *, columns: int) -> None:
    """Say once, below all panels, what the colours are."""
    figure.legend(
        named.values(),
        named.keys(),
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        labelcolor=INK,
    )
