"""Where variance goes in the middle of two deep networks, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

import fxrebasin as fr
from benchmarks.align.checkpoints import Pair
from benchmarks.measuring.reporting import markdown_table
from benchmarks.merging.alignments import by_both
from benchmarks.merging.fashion import load_fashion
from benchmarks.merging.lines import half_way, with_state
from benchmarks.merging.plots import COLOURS, Curve, Panel, draw_panels
from benchmarks.merging.recipes import DEEP_MLP
from benchmarks.merging.rows import Results, Row
from benchmarks.merging.training import scores, trained
from fxrebasin.drawing.figures import save_figure
from fxrebasin.repair.correcting import Method

STUDY = "collapse"
WATCHED = 2048
"""Training images that statistics are measured on; the variances that are drawn are of test
images."""
METHODS = ("as trained", "as trained, REPAIR", "aligned", "aligned, RESCALE", "aligned, REPAIR")
METHODS_OF_REPAIR: dict[str, Method] = {"RESCALE": "rescale", "REPAIR": "repair"}
HEADER = ("half way", "loss", "accuracy", "layer 1", "layer 5", "layer 10", "layer 15")


@torch.no_grad()
def variances(model: nn.Module, images: Tensor) -> list[float]:
    """Per hidden layer the variance over examples of what units take, their mean."""
    found: list[float] = []
    x = images
    for layer in model.children():
        x = layer(x)
        if isinstance(layer, nn.Linear):
            found.append(x.var(0).mean().item())
    return found[:-1]


def middles(a: nn.Module, b: nn.Module, images: Tensor) -> Mapping[str, nn.Module]:
    """The networks half way from A to B, by what was done."""
    aligned = by_both(Pair(a, b, images[:8]), images, 0)
    batches = images[:WATCHED].split(512)
    found: dict[str, nn.Module] = {}
    for name, state in (("as trained", b.state_dict()), ("aligned", aligned)):
        found[name] = half_way(a, state)
        for title, method in METHODS_OF_REPAIR.items():
            found[f"{name}, {title}"] = fr.repair(
                found[name],
                like=[a, with_state(b, state)],
                data=batches,
                method=method,
                sequential=True,
                progress=False,
            )
    return {name: found[name] for name in METHODS}


def run(results: Results) -> None:
    """Measure what is missing.

    Raises:
        UnavailableError: the data cannot be had.
    """
    if not results.lacks(STUDY, DEEP_MLP.name, METHODS):
        return
    data = load_fashion().halved()
    a, b = (trained(DEEP_MLP, data.train, seed=seed) for seed in (0, 1))
    of_ends = [variances(model, data.test.images) for model in (a, b)]
    for parent, model in zip("AB", (a, b), strict=True):
        results.add(STUDY, DEEP_MLP.name, f"parent {parent}", scores(model, data.test))
    for name, model in middles(a, b, data.train.images).items():
        found = variances(model, data.test.images)
        ratios = [2 * m / (x + y) for m, x, y in zip(found, *of_ends, strict=True)]
        curves = {"ratio": ratios}
        results.add(STUDY, DEEP_MLP.name, name, scores(model, data.test), curves=curves)


def section(rows: Sequence[Row]) -> str:
    cells = []
    for row in rows:
        ratios = row.curves.get("ratio")
        shown = [f"{ratios[k]:.2g}" for k in (0, 4, 9, 14)] if ratios else [""] * 4
        loss, accuracy = row.figures["loss"], row.figures["accuracy"]
        cells.append((row.method, f"{loss:.3f}", f"{accuracy:.1%}", *shown))
    return (
        "## Collapse of variance\n\n"
        "Two MLPs of 15 hidden layers of 128 units, on images of Fashion-MNIST of half the height "
        "and width. Half way between them: loss and accuracy on the test images, and the variance "
        "of what the units of a layer take, divided by the mean of both ends' variances.\n\n"
        "![The ratio of variances, layer by layer](collapse.png)\n\n"
        f"{markdown_table(HEADER, cells)}\n"
    )


def draw(rows: Sequence[Row], folder: Path) -> None:
    curves = []
    for row in rows:
        if ratios := row.curves.get("ratio"):
            colour = COLOURS[(1, 2, 4, 3, 5)[METHODS.index(row.method)]]
            layers = [*range(1, len(ratios) + 1)]
            curves.append(Curve(row.method, layers, [ratios], colour))
    panel = Panel(
        "Variance half way between two networks, divided by that at the ends",
        curves,
        x="hidden layer",
        logarithmic=True,
    )
    save_figure(draw_panels([[panel]], height=4.8, width=8.4), folder / "collapse.png")
