"""Draw blocks of units and what leads from one to another, so that the architecture is seen.

Time runs from left to right. A hidden layer is a box; a residual stream is a bar along all layers
that read and write it; blocks nested in another are drawn inside it. Arrows are the parameters
between blocks: they leave at the right end of what is read there for the last time, or at a dot on
what goes on. Pinned units, such as the network's inputs and outputs, are small squares.

Long networks are wrapped into rows, like a text. The end of what a row shows last is repeated,
paler, where the next row begins.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import networkx as nx

from .arrangement import Arrangement, arrange, cut_rows
from .events import Flow
from .figures import figure_type, save_figure
from .lines import Loop, lines, pinned_ends
from .names import Names
from .scene import COMFORTABLE, COMPACT, Scene
from .shapes import COLOURS, FAINT, INK, TIMES, draw_box, draw_line, draw_loop, draw_pinned_end
from .text import shortened, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MEANING = {
    "block": "block of units",
    "stream": "written more than once, such as a residual stream",
    "parent": "block with others nested inside",
    "nested": f"nested block: size {TIMES} units of the block around it",
    "pinned": "pinned units",
}
# The same names inside an SVG file every time.
_SALT = "fxrebasin"
_LEVELS_PER_ROW = {COMFORTABLE: 13, COMPACT: 28}
_MANY = 64
# All in inches. Above a row stands the strip with the names of the modules.
_MARGIN, _HEAD, _FOOT, _NARROWEST = 0.25, 0.3, 0.17, 5.0
_ABOVE, _BELOW = 0.44, 0.22


def plot_blocks(
    graph: nx.MultiDiGraph,
    flows: Iterable[Flow],
    path: str | os.PathLike[str] | None = None,
    *,
    title: str = "",
) -> Figure:
    """Draw blocks, and write the drawing to a file.

    Args:
        graph: its nodes are the blocks, with ``size``, ``count``, ``units``, ``parent`` and
            ``label``.
        flows: what leads from blocks to blocks.
        path: where to write the picture; the ending chooses the format (png, svg, pdf ...).
            It appears there complete or not at all.
        title: a line above.

    Returns:
        The matplotlib figure. Neither pyplot nor any global setting is touched.

    Raises:
        ModuleNotFoundError: matplotlib is missing (``pip install 'fxrebasin[plot]'``).
        InvalidArgumentError: the ending is unknown.
    """
    figure = draw_blocks(graph, flows, title=title)
    if path is not None:
        from matplotlib import rc_context

        with rc_context({"svg.hashsalt": _SALT}):
            save_figure(figure, path)
    return figure


def svg_of_blocks(graph: nx.MultiDiGraph, flows: Iterable[Flow]) -> str:
    """The drawing as an ``<svg>`` element with texts that can be searched; the same every time."""
    figure = draw_blocks(graph, flows)
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": _SALT, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    start, _, rest = text[text.index("<svg") :].partition("<metadata>")
    return start + rest.partition("</metadata>")[2]


def draw_blocks(graph: nx.MultiDiGraph, flows: Iterable[Flow], *, title: str = "") -> Figure:
    """The drawing as a figure that pyplot knows nothing of; see :func:`plot_blocks`.

    >>> graph = nx.MultiDiGraph()
    >>> graph.add_node("hidden", size=8, count=1, units=8, parent=None, label="hidden")
    >>> len(draw_blocks(graph, []).axes)
    1
    """
    new_figure = figure_type()
    layout = arrange(graph, flows)
    style = COMFORTABLE if len(graph) <= _MANY else COMPACT
    rows = cut_rows(layout, _LEVELS_PER_ROW[style])
    scenes = [Scene(layout, style, first, last) for first, last in rows]
    legend = _legend(layout)
    width = max([scene.right - scene.left for scene in scenes] + [_NARROWEST])
    foot = _FOOT * _legend_rows(legend, width)
    head = _HEAD if title else 0.0
    height = sum(_height_of(scene) for scene in scenes) + head + foot
    figure = new_figure(figsize=(width + 2 * _MARGIN, height + 2 * _MARGIN), dpi=150)
    _write_head(figure, title)
    if not graph:
        figure.text(0.5, 0.5, "No units can move.", ha="center", va="center", color=FAINT)
    names = Names(layout)
    bottom = height + _MARGIN - head
    for scene in scenes:
        bottom -= _height_of(scene)
        _draw_row(_panel(figure, scene, bottom), scene, names)
    _draw_legend(figure, legend, _legend_rows(legend, width))
    return figure


def _height_of(scene: Scene) -> float:
    return scene.height + _ABOVE + _BELOW


def _panel(figure: Figure, scene: Scene, bottom: float) -> Axes:
    """Axes for a row, in inches like its scene."""
    width, height = figure.get_size_inches()
    span, high = scene.right - scene.left, _height_of(scene)
    panel = figure.add_axes((_MARGIN / width, bottom / height, span / width, high / height))
    panel.set_axis_off()
    panel.set_xlim(scene.left, scene.right)
    panel.set_ylim(-_BELOW, high - _BELOW)
    return panel


def _write_head(figure: Figure, title: str) -> None:
    width, height = figure.get_size_inches()
    figure.text(
        _MARGIN / width, 1 - _MARGIN / height, title, ha="left", va="top", color=INK, fontsize=10,
        fontweight="bold", parse_math=False,
    )  # fmt: skip


def _draw_row(panel: Axes, scene: Scene, names: Names) -> None:
    style = scene.style
    _draw_bands(panel, scene, names)
    for found, end in pinned_ends(scene):
        for line in found:
            draw_line(panel, line, style)
        draw_pinned_end(panel, end, style)
    # Bars first: a line that crosses a bar without a dot on it has nothing to do with it.
    for name, box in scene.boxes.items():
        draw_box(panel, scene, name, box, names)
    for line_or_loop in lines(scene):
        if isinstance(line_or_loop, Loop):
            draw_loop(panel, line_or_loop, style)
        else:
            draw_line(panel, line_or_loop, style)


def _draw_bands(panel: Axes, scene: Scene, names: Names) -> None:
    from matplotlib.patches import Rectangle

    column = scene.style.column
    low, high = panel.get_ylim()
    for k, (start, end, text) in enumerate(names.bands(scene.first, scene.last)):
        if not text:
            continue
        left, width = start * column, (end - start) * column
        place = Rectangle((left + 0.02, low), width - 0.04, high - low - 0.06, zorder=0)
        place.set(facecolor="#f5f5f3" if k % 2 else "#f9f9f8", edgecolor="none")
        panel.add_patch(place)
        shown = shortened(text, width - 0.08, scene.style.font)
        panel.text(
            left + width / 2, high - 0.1, shown, ha="center", va="top", color=FAINT,
            fontsize=scene.style.font, zorder=1,
        )  # fmt: skip


def _legend(layout: Arrangement) -> list[tuple[str, str, str]]:
    """Fill, rim and meaning of every kind of block that is there."""
    found = {layout.kind(name) for name in layout.graph}
    entries = [(*colours, _MEANING[kind]) for kind, colours in COLOURS.items() if kind in found]
    if any(event.pinned_units for event in layout.events):
        entries.append((FAINT, FAINT, _MEANING["pinned"]))
    return entries


def _legend_rows(entries: Sequence[tuple[str, str, str]], width: float) -> int:
    """In how many rows the entries fit into a width."""
    widest = max((text_width(text, 7.0) + 0.45 for _, _, text in entries), default=1.0)
    total = sum(text_width(text, 7.0) + 0.45 for _, _, text in entries)
    return 1 if total <= width else -(-len(entries) // max(int(width / widest), 1))


def _draw_legend(figure: Figure, entries: Sequence[tuple[str, str, str]], rows: int) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=fill, edgecolor=rim, label=text) for fill, rim, text in entries]
    figure.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(_MARGIN / figure.get_figwidth(), 0.0),
        frameon=False, ncols=max(-(-len(handles) // rows), 1), fontsize=7, labelcolor=INK,
        handlelength=1.2, handleheight=0.9, borderpad=0.8, borderaxespad=0.0, columnspacing=1.6,
    )  # fmt: skip
