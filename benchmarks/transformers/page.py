"""The page of what was measured, and its picture."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.measuring.reporting import markdown_table, provenance, write_atomically
from benchmarks.merging.plots import COLOURS, Curve, Panel, draw_panels
from benchmarks.merging.rows import Results, Row, by_method, networks_of
from benchmarks.transformers.methods import STEPS, methods_for
from benchmarks.transformers.training import PAIRS, PERCEPTRONS, TRANSFORMERS
from fxrebasin.drawing.figures import save_figure

STUDY = "transformers"
PICTURE = "transformers.png"

LABELS = {
    "GLMC, by weights (another architecture)": "GLMC, by weights",
    "rotations, as rebasin finds them": "rebasin with rotations",
    "as rebasin finds them, and learned, 200 steps": "rebasin with rotations, learned 200 steps",
    f"and learned, {STEPS[-1]} steps": "learned from activations",
}
"""What methods are called in the picture, where that is shorter."""

DRAWN = {
    "as trained": COLOURS[0],
    "permutations, by weights": COLOURS[1],
    "permutations, by activations": COLOURS[2],
    "GLMC, by weights (another architecture)": COLOURS[3],
    "rotations, by weights": COLOURS[4],
    "rotations, as rebasin finds them": COLOURS[5],
    f"and learned, {STEPS[-1]} steps": COLOURS[6],
    "as rebasin finds them, and learned, 200 steps": COLOURS[7],
}


def write(results: Results, page: Path, threads: int) -> None:
    """Write what has been measured so far."""
    rows = results.of(STUDY)
    if not rows:
        return
    save_figure(draw_panels(panels(rows), width=6.2, height=3.8), page.parent / PICTURE)
    text = (
        "# Transformers of different seeds\n\n"
        f"{provenance([row.commit for row in rows], [threads])}\n\n"
        f"{EXPLANATION}\n\n"
        f"![Loss along the line between two networks, and what is learned]({PICTURE})\n\n"
        f"{table(rows)}\n"
    )
    write_atomically(page, text)


HEADER = ("network", "method", "barrier", "mean", "loss half way", "accuracy")
EXPLANATION = (
    "Networks of one recipe and different seeds, trained here: a ViT of 3 layers, 96 wide, on "
    "Fashion-MNIST, a GPT of 3 layers, 128 wide, on the characters of speeches on the state of the "
    "union, and perceptrons of three hidden layers on Fashion-MNIST. "
    f"There are {len(PAIRS)} pairs of each, of three networks. B is aligned with A, and loss and "
    "accuracy are measured at 5 points of the straight line, on 1,000 unseen images (2,000 for "
    "perceptrons) or 160 unseen windows of text. "
    "Barrier: by how much the loss exceeds the line between the losses of the ends, at most; one "
    "figure per pair. All else are means. Rotations: norms are absorbed, streams centred, heads "
    "balanced, and the residual stream and the inside of heads are rotated, heads and hidden units "
    "permuted. Rebasin finds them so: the stream by activations, all else by weights. Learned: by "
    "`fr.refine`, from rotations by activations or from where it says, one batch of 128 images or "
    "32 windows of 64 characters a step, of those that were trained on. GLMC: its weight matching "
    "by hand for these networks, as a summary of its paper describes it, not its authors' program; "
    "it multiplies the matrices of a head, so that what is averaged is of another architecture "
    "with more parameters. The permutations of Git Re-Basin are ours by weights. REPAIR: "
    "`fr.repair` at every point of the line, on the "
    "inputs that activations are compared on: 500 images, 64 windows of text, 1,000 images for "
    "perceptrons."
)


def table(rows: Sequence[Row]) -> str:
    cells = []
    for network in networks_of(rows):
        parents = [row for row in rows if row.network == network and row.method == "as trained"]
        if parents:
            ends = (
                f"{_mean(parents, 'loss of the parents'):.3f}",
                f"{_mean(parents, 'accuracy of the parents'):.1%}",
            )
            cells.append((network, "the parents", "", "", *ends))
        for method, found in _in_order(network, by_method(rows, network)):
            cells.append(
                (
                    network,
                    method,
                    ", ".join(f"{row.figures['barrier']:.3f}" for row in found),
                    f"{_mean(found, 'barrier'):.3f}",
                    f"{_mean(found, 'loss'):.3f}",
                    f"{_mean(found, 'accuracy'):.1%}",
                )
            )
    return markdown_table(HEADER, cells)


def _in_order(network: str, found: dict[str, list[Row]]) -> Iterator[tuple[str, list[Row]]]:
    """As methods are listed, whatever was measured first."""
    (setting,) = (s for s in (*TRANSFORMERS, *PERCEPTRONS) if s.name == network)
    for method in methods_for(setting, 0):
        if method in found:
            yield method, sorted(found[method], key=lambda row: row.seed)


def _mean(rows: Sequence[Row], figure: str) -> float:
    return statistics.fmean(row.figures[figure] for row in rows)


def panels(rows: Sequence[Row]) -> list[list[Panel]]:
    """Per transformer: its losses along lines, those that are low, and what is learned by when."""
    made = []
    for setting in TRANSFORMERS:
        found = by_method(rows, setting.name)
        if found:
            made.append([_losses(setting.name, found), _learning(setting.name, found)])
    return made


def _losses(network: str, found: dict[str, list[Row]]) -> Panel:
    curves = [
        Curve(
            *(LABELS.get(m, m), found[m][0].curves["t"], [r.curves["loss"] for r in found[m]]),
            colour,
        )
        for m, colour in DRAWN.items()
        if m in found
    ]
    return Panel(f"{network}: loss along the line", curves, ends=("A", "B"))


def _learning(network: str, found: dict[str, list[Row]]) -> Panel:
    methods = {0: "rotations, by activations"} | {n: f"and learned, {n} steps" for n in STEPS}
    known = {n: found[m] for n, m in methods.items() if m in found}
    first = {n: row for n, rows in known.items() for row in rows if row.seed == 0}
    ys = [[row.figures["barrier"] for row in first.values()]]
    learned = f"and learned, {STEPS[-1]} steps"
    curves = [Curve(LABELS[learned], [*first], ys, DRAWN[learned])]
    others = (
        "GLMC, by weights (another architecture)",
        "rotations, by weights",
        "rotations, as rebasin finds them",
        "as rebasin finds them, and learned, 200 steps",
    )
    for method in others:
        if method in found:
            barrier = _mean([row for row in found[method] if row.seed == 0], "barrier")
            ends = [0, max(first, default=0)]
            label = LABELS.get(method, method)
            curves.append(Curve(label, ends, [[barrier, barrier]], DRAWN[method], dashed=True))
    top = max((y for curve in curves for one in curve.ys for y in one), default=1.0)
    return Panel(
        f"{network}: barrier of the first pair",
        curves,
        x="steps of learning",
        ticks=[*first],
        limits=(0.0, 1.05 * top),
    )
