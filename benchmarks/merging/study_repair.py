"""Small convolutional networks of many kinds: aligned or not, their statistics put right or not."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from torch import nn
from tqdm import tqdm

import fxrebasin as fr
from benchmarks.align.checkpoints import Pair
from benchmarks.measuring.reporting import markdown_table
from benchmarks.merging.alignments import by_both
from benchmarks.merging.fashion import load_fashion
from benchmarks.merging.lines import half_way, with_state
from benchmarks.merging.networks import FAMILIES
from benchmarks.merging.plots import Map, draw_maps
from benchmarks.merging.recipes import SMALL_SUBSET, WIDTHS, small
from benchmarks.merging.rows import Results, Row, by_method
from benchmarks.merging.training import scores, trained
from fxrebasin.drawing.figures import save_figure
from fxrebasin.repair.correcting import Method

STUDY = "repair"
WATCHED = 2048
"""Training images that statistics are measured on."""
FEW = 4000
"""Test images."""
ALIGNMENTS = ("as trained", "aligned")
TREATMENTS = ("nothing", "reset", "REPAIR", "RESCALE")


def treated(
    middle: nn.Module, parents: Sequence[nn.Module], data: Sequence[object]
) -> dict[str, nn.Module]:
    """A network half way, and what puts its statistics right; a reset is of BatchNorm alone."""
    methods: dict[str, Method] = {"REPAIR": "repair", "RESCALE": "rescale"}
    repaired = {
        name: fr.repair(middle, like=parents, data=data, method=method, progress=False)
        for name, method in methods.items()
    }
    return {
        "nothing": middle,
        "reset": fr.recompute_batch_norm(middle, data),
        **repaired,
    }


def run(results: Results) -> None:
    """Measure what is missing.

    Raises:
        UnavailableError: the data cannot be had.
    """
    data = load_fashion().halved()
    train, test = data.train.first(SMALL_SUBSET), data.test.first(FEW)
    batches = train.images[:WATCHED].split(256)
    networks = list(itertools.product(WIDTHS, FAMILIES))
    for width, family in tqdm(networks, desc="REPAIR", unit="network"):
        recipe = small(family, width)
        if not (missing := results.lacks(STUDY, recipe.name, ALIGNMENTS)):
            continue
        a, b = (trained(recipe, train, seed=seed) for seed in (0, 1))
        ends = [scores(model, test) for model in (a, b)]
        means = {name: (ends[0][name] + ends[1][name]) / 2 for name in ends[0]}
        for alignment in missing:
            state = b.state_dict()
            if alignment == "aligned":
                state = dict(by_both(Pair(a, b, train.images[:8]), train.images, 0))
            models = treated(half_way(a, state), [a, with_state(b, state)], batches)
            figures = {f"{name} of the parents": value for name, value in means.items()}
            for name, model in models.items():
                found = scores(model, test)
                figures[name] = found["loss"] - means["loss"]
                figures[f"{name}, accuracy"] = found["accuracy"]
            results.add(STUDY, recipe.name, alignment, figures)


HEADER = (
    *("network", "accuracy of the parents", "as trained", "+ REPAIR", "aligned"),
    *("+ reset", "+ REPAIR", "+ RESCALE"),
)


def section(rows: Sequence[Row]) -> str:
    cells = []
    for family, width in itertools.product(FAMILIES, WIDTHS):
        found = by_method(rows, small(family, width).name)
        if not set(ALIGNMENTS) <= set(found):
            continue
        before, after = (found[name][0].figures for name in ALIGNMENTS)
        normed = "BatchNorm" in family
        cells.append(
            (
                *(f"{family}, width {width}", f"{before['accuracy of the parents']:.1%}"),
                *(f"{before[t]:.2f}" for t in ("nothing", "REPAIR")),
                f"{after['nothing']:.2f}",
                f"{after['reset']:.2f}" if normed else "",
                *(f"{after[t]:.2f}" for t in ("REPAIR", "RESCALE")),
            )
        )
    return (
        "## REPAIR of small convolutional networks\n\n"
        "By how much the loss half way between two networks exceeds the mean of their own losses, "
        f"trained from different seeds on {SMALL_SUBSET:,} images of Fashion-MNIST of half the "
        f"height and width; on {FEW:,} of its test images. VGG: six convolutions in three "
        "stages; ResNet: ResNet-8; at width 1 they begin with 4 channels. Aligned: weight matching "
        "that starts where activations are matched. Reset: the statistics of BatchNorm, measured "
        f"afresh. REPAIR and RESCALE: `fr.repair`, in one pass; on {WATCHED:,} training "
        "images.\n\n"
        "![The loss half way, by network and treatment](repair.png)\n\n"
        f"{markdown_table(HEADER, cells)}\n"
    )


def draw(rows: Sequence[Row], folder: Path) -> None:
    maps = []
    for width in WIDTHS:
        values, names = [], []
        for family in FAMILIES:
            found = by_method(rows, small(family, width).name)
            if set(ALIGNMENTS) <= set(found):
                before, after = (found[name][0].figures for name in ALIGNMENTS)
                names.append(family)
                values.append([before["nothing"], *(after[t] for t in TREATMENTS)])
        if values:
            columns = ("as trained", "aligned", *(f"+ {t}" for t in TREATMENTS[1:]))
            maps.append(
                Map(
                    f"Loss above the parents', width {width}", values, columns, names, limits=(0, 2)
                )
            )
    rows_of_maps = [maps[k : k + 2] for k in range(0, len(maps), 2)]
    save_figure(draw_maps(rows_of_maps, x="", y=""), folder / "repair.png")
