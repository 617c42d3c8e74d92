"""Loss barriers between networks that were trained from different seeds, beside other programs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from benchmarks.align.checkpoints import Pair
from benchmarks.measuring.reporting import markdown_table
from benchmarks.merging.alignments import OTHERS, OURS, Align, by_both, by_weights
from benchmarks.merging.fashion import Data, load_fashion
from benchmarks.merging.lines import line
from benchmarks.merging.plots import COLOURS, Curve, Panel, draw_panels
from benchmarks.merging.recipes import MLP, RESNET, SUBSET
from benchmarks.merging.rows import Results, Row, by_method, middle, networks_of, spread
from benchmarks.merging.training import Recipe, trained
from fxrebasin.drawing.figures import save_figure

STUDY = "barrier"
RESET_ON = 1024
"""Training images that BatchNorm's statistics are measured on, at every point of a line."""
FEW = 2000
"""Test images that ResNets are measured on."""
HEADER = (
    *("network", "alignment", "barrier", "loss half way", "accuracy half way"),
    *("accuracy of the parents",),
)

DRAWN = {
    "as trained": COLOURS[0],
    "rebasin 0.0.47": COLOURS[1],
    "plain git-re-basin": COLOURS[2],
    "ours, weights": COLOURS[3],
    "ours, activations": COLOURS[5],
    "ours, weights from activations": COLOURS[4],
}
LOW = 0.5
"""Barriers that are drawn again, where others do not dwarf them."""


class Case(NamedTuple):
    """A network, how many pairs of it, its data and the ways to align it."""

    recipe: Recipe
    pairs: int
    data: Data
    steps: int
    """Points of a line."""
    methods: dict[str, Align]


def cases() -> list[Case]:
    data = load_fashion()
    few = data.halved()
    budgets: dict[str, Align] = {
        "ours, weights, 20 rounds": partial(by_weights, rounds=20),
        "ours, weights from activations, 20 rounds": partial(by_both, rounds=20),
    }
    return [
        Case(MLP, 3, data, 11, {**OTHERS, **OURS}),
        Case(
            RESNET,
            2,
            Data(few.train.first(SUBSET), few.test.first(FEW)),
            3,
            {**OTHERS, **OURS, **budgets},
        ),
    ]


def run(results: Results) -> None:
    """Measure what is missing.

    Raises:
        UnavailableError: the data cannot be had.
    """
    for recipe, pairs, data, steps, methods in cases():
        for seed in tqdm(range(pairs), desc=recipe.name, unit="pair"):
            if not (missing := results.lacks(STUDY, recipe.name, methods, seed)):
                continue
            a, b = (trained(recipe, data.train, seed=2 * seed + k) for k in (0, 1))
            images = data.train.images
            for method in tqdm(missing, desc="align", unit="method", leave=False):
                state = methods[method](Pair(a, b, images[:8]), images, seed)
                loader = images[:RESET_ON].split(256)
                found = line(a, state, data.test, loader=loader, steps=steps)
                results.add(
                    STUDY, recipe.name, method, found.figures, seed=seed, curves=found.curves
                )


def section(rows: Sequence[Row]) -> str:
    cells = []
    for network in networks_of(rows):
        for method, found in by_method(rows, network).items():
            cells.append(
                (
                    *(network, method, spread(found, "barrier"), spread(found, "loss")),
                    *(spread(found, "accuracy", ".1%"),),
                    spread(found, "accuracy of the parents", ".1%"),
                )
            )
    return (
        "## Loss barriers\n\n"
        "Pairs of networks, trained on Fashion-MNIST from different seeds: the MLP on all "
        f"60,000 images, the ResNet-8 (32, 64 and 128 channels) on {SUBSET:,}, of half the height "
        "and width. B is aligned with A, and loss and accuracy are measured on the 10,000 test "
        f"images at 11 points of the straight line, of ResNets on {FEW:,} at 3. Barrier: "
        "by how much the loss exceeds the line between the losses of the ends, at most. "
        "BatchNorm's statistics are measured afresh at every point, on "
        f"{RESET_ON:,} training images. From the least to the greatest of all "
        "pairs.\n\n"
        "![Loss and accuracy along the line between two networks](barrier.png)\n\n"
        f"{markdown_table(HEADER, cells)}\n"
    )


def draw(rows: Sequence[Row], folder: Path) -> None:
    panels = []
    for network in networks_of(rows):
        found = by_method((row for row in rows if row.curves), network)
        aligned = [m for m in DRAWN if m in found and middle(found[m], "barrier") < LOW]
        panels.append(
            [
                _panel(f"{network}: loss", found, "loss", [*DRAWN]),
                _panel(f"{network}: loss, where it is low", found, "loss", aligned),
                _panel(f"{network}: accuracy", found, "accuracy", [*DRAWN]),
            ]
        )
    save_figure(draw_panels(panels), folder / "barrier.png")


def _panel(title: str, found: dict[str, list[Row]], metric: str, methods: list[str]) -> Panel:
    curves = [
        Curve(m, found[m][0].curves["t"], [r.curves[metric] for r in found[m]], DRAWN[m])
        for m in methods
        if m in found
    ]
    return Panel(title, curves, ends=("A", "B"), percent=metric == "accuracy")
