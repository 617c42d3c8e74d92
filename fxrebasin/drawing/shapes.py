"""The shapes of a drawing of blocks: boxes with their texts, arrows, loops and pinned ends."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .events import ancestors
from .lines import Line, Loop, PinnedEnd, Point
from .names import Names
from .scene import Box, Scene, Style
from .text import fitted, line_height

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.path import Path

TIMES = "\N{MULTIPLICATION SIGN}"
INK, FAINT, _EDGE = "#3a3a3a", "#9a9a9a", "#555555"
# Fill and rim per kind of block; the rims stay apart for every kind of colour vision.
COLOURS = {
    "block": ("#d3e4f1", "#1f6f9f"),
    "stream": ("#f8dccf", "#c8553d"),
    "parent": ("#f4f1f8", "#7d6a9e"),
    "nested": ("#ddd2ec", "#7d6a9e"),
}


def draw_box(panel: Axes, scene: Scene, name: str, box: Box, names: Names) -> None:
    from matplotlib.patches import FancyBboxPatch

    style = scene.style
    fill, rim = COLOURS[scene.layout.kind(name)]
    depth = len(ancestors(scene.layout.graph, name))
    corner = min(0.06, box.height / 3)
    patch = FancyBboxPatch(
        (box.left, box.bottom), box.width, box.height, zorder=2 + depth * 0.1,
        boxstyle=f"round,pad=0,rounding_size={corner}", facecolor=fill, edgecolor=rim,
        linewidth=style.line,
    )  # fmt: skip
    panel.add_patch(patch)
    repeated = scene.layout.spans[name][1] == scene.first and scene.first > 0
    if repeated:
        patch.set_alpha(0.45)
    _write_in_box(panel, scene, name, names.of(name), alpha=0.6 if repeated else 1.0)


def _write_in_box(panel: Axes, scene: Scene, name: str, text: str, alpha: float) -> None:
    style, box = scene.style, scene.boxes[name]
    block = scene.layout.graph.nodes[name]
    size = f"{block['size']:,}" + (f" {TIMES} {block['count']:,}" if block["count"] > 1 else "")
    start, end = scene.layout.spans[name]
    bottom, left, right = box.bottom, max(box.left, scene.left), min(box.right, scene.right)
    if scene.layout.children[name]:
        bottom = box.top - style.heading
    elif end - start > 1 and end > scene.first:
        # Where the bar begins, before the first line that can cross it.
        first = max(start, scene.first)
        left, right = first * style.column + style.gutter, (first + 1) * style.column
        right = min(right - style.gutter * 0.6, box.right)
    fit = fitted(text, size, right - left - 0.08, box.top - bottom, style.font)
    for k, line in enumerate(fit.lines):
        above = ((len(fit.lines) - 1) / 2 - k) * line_height(fit.font)
        panel.text(
            (left + right) / 2, (bottom + box.top) / 2 + above, line,
            ha="center", va="center_baseline", color=INK, fontsize=fit.font, alpha=alpha,
            fontweight="bold" if 0 < k == len(fit.lines) - 1 else "normal", zorder=4, clip_on=True,
            parse_math=False,
        )  # fmt: skip


def draw_line(panel: Axes, line: Line, style: Style) -> None:
    from matplotlib.patches import Circle, FancyArrowPatch, PathPatch

    path = _rounded(line.points, 0.05)
    # The paler seam tells crossing lines apart; at the ends it would nibble at the boxes.
    seam = _rounded(_trimmed(line.points, 0.05), 0.05)
    under = PathPatch(
        seam, fill=False, edgecolor="white", lw=style.line + 1.6, zorder=2.9, capstyle="butt"
    )
    panel.add_patch(under)
    over = PathPatch(path, fill=False, edgecolor=_EDGE, lw=style.line, zorder=3)
    panel.add_patch(over)
    if line.arrow:
        (x, y), (u, v) = line.points[-2:]
        head = FancyArrowPatch(
            (x, y), (u, v), arrowstyle="-|>", mutation_scale=8 * style.line, shrinkA=0, shrinkB=0,
            color=_EDGE, lw=0, zorder=3.1,
        )  # fmt: skip
        panel.add_patch(head)
    if line.dot:
        panel.add_patch(Circle(line.points[0], 0.022 * style.line, color=_EDGE, lw=0, zorder=3.1))


def draw_loop(panel: Axes, loop: Loop, style: Style) -> None:
    from matplotlib.patches import FancyArrowPatch

    box = loop.box
    x, reach = box.right - 0.25 * min(box.width, 0.8), 0.12 * min(box.width, 0.8)
    panel.add_patch(
        FancyArrowPatch(
            (x + reach, box.top),
            (x - reach, box.top),
            connectionstyle="arc3,rad=1.3",
            arrowstyle="-|>",
            mutation_scale=8 * style.line,
            shrinkA=0,
            shrinkB=0,
            color=_EDGE,
            lw=style.line,
            zorder=3,
        )
    )


def draw_pinned_end(panel: Axes, end: PinnedEnd, style: Style) -> None:
    from matplotlib.patches import Rectangle

    x, y = end.at
    half = style.marker
    panel.add_patch(Rectangle((x - half, y - half), 2 * half, 2 * half, color=FAINT, zorder=3.2))
    text = ", ".join(f"{n:,}" for n in end.units if n > 1)
    offset = half + 0.03
    dx, dy, ha, va = {
        "left": (-offset, 0.0, "right", "center"),
        "right": (offset, 0.0, "left", "center"),
        "above": (offset, 0.0, "left", "center"),
        "below": (offset, 0.0, "left", "center"),
    }[end.side]
    panel.text(x + dx, y + dy, text, ha=ha, va=va, color=FAINT, fontsize=style.font - 1, zorder=3.2)


def _trimmed(points: tuple[Point, ...], by: float) -> tuple[Point, ...]:
    """Without a little at both ends."""

    def towards(end: Point, other: Point) -> Point:
        share = min(by / math.dist(end, other), 0.5)
        return end[0] + (other[0] - end[0]) * share, end[1] + (other[1] - end[1]) * share

    return (towards(points[0], points[1]), *points[1:-1], towards(points[-1], points[-2]))


def _rounded(points: tuple[Point, ...], radius: float) -> Path:
    """A path along the points, with its corners rounded."""
    from matplotlib.path import Path

    vertices, codes = [points[0]], [Path.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        for other, code in ((before, Path.LINETO), (after, Path.CURVE3)):
            far = math.dist(other, corner)
            share = min(radius, far / 2) / far
            near = (
                corner[0] + (other[0] - corner[0]) * share,
                corner[1] + (other[1] - corner[1]) * share,
            )
            if code == Path.CURVE3:
                vertices.append(corner)
                codes.append(code)
            vertices.append(near)
            codes.append(code)
    return Path([*vertices, points[-1]], [*codes, Path.LINETO])
