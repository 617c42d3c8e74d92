"""The picture: a row of panels per family, the width on the left and the depth on the right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.scaling.fits import Curve, upper_half

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Apart for every kind of colour vision (M. Okabe and K. Ito, "Color universal design", 2008).
STYLES = {
    "discovery": ("#999999", "s"),
    "products": ("#0072b2", "o"),
    "assignment": ("#d55e00", "^"),
    "evaluation": ("#009e73", "D"),
    "rest": ("#cc79a7", "v"),
}
INK, FAINT = "#3a3a3a", "#9a9a9a"


def draw(curves: Sequence[Curve]) -> Figure:
    """Seconds per step, and the fitted laws (dashed) with their exponents."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    families = list(dict.fromkeys(curve.family for curve in curves))
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    figure = Figure(figsize=(11.5, 4.6 * len(families)), dpi=150, layout=layout)
    grid = figure.subplots(len(families), 2, squeeze=False, sharey="row")
    for curve in curves:
        _draw(grid[families.index(curve.family), int(curve.axis == "depth")], curve)
    return figure


def _draw(panel: Axes, curve: Curve) -> None:
    sizes, laws = curve.sizes, curve.fits()
    half = upper_half(sizes)
    symbol = "w" if curve.axis == "width" else "d"
    for step, (colour, marker) in STYLES.items():
        seconds = [getattr(row, step) for row in curve.rows]
        law = laws[step]
        label = step if law is None else rf"{step} $\sim {symbol}^{{{law.exponent:.2f}}}$"
        panel.plot(sizes, seconds, color=colour, marker=marker, ms=5, lw=0, label=label)
        panel.plot(sizes, seconds, color=colour, lw=0.8, alpha=0.4)
        if law is not None:
            panel.plot(half, [law.at(size) for size in half], color=colour, lw=2, ls="--")
    fixed = curve.rows[0].depth if curve.axis == "width" else curve.rows[0].width
    other = "depth" if curve.axis == "width" else "width"
    panel.set_title(f"{curve.rows[0].title}, {other} {fixed}", loc="left", color=INK)
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xticks(sizes, [str(size) for size in sizes])
    panel.set_xlabel(curve.axis, color=INK)
    panel.set_ylabel("seconds", color=INK)
    panel.tick_params(labelleft=True, colors=INK, length=0, which="both")
    panel.grid(color="#e6e6e6", lw=0.8)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color(FAINT)
    panel.legend(frameon=False, loc="upper left", labelcolor=INK)
