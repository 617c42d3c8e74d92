"""Weight decay, width and the number of models: when do merged MLPs keep what their parents know?

The study of MLPs that the package rebasin was published with, again: which of what it saw holds?
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

import fxrebasin as fr
from benchmarks.measuring.reporting import markdown_table
from benchmarks.merging.fashion import Images
from benchmarks.merging.lines import with_state
from benchmarks.merging.networks import mlp
from benchmarks.merging.observations import figures_of, observations
from benchmarks.merging.plots import Map, draw_maps
from benchmarks.merging.rows import Results, Row
from benchmarks.merging.training import Recipe, scores, train
from fxrebasin.cli.demo import load_digits
from fxrebasin.drawing.figures import save_figure

STUDY = "decay"
DECAYS = (0.0, 0.03, 0.1, 0.3, 0.6, 0.9)
WIDTHS = (32, 96, 256)
COUNTS = (2, 3, 4, 5, 6)
WAYS = ("naive", "aligned")


def recipe(width: int, decay: float) -> Recipe:
    build = partial(mlp, 64, width, width, width, 10)
    name = network(width, decay)
    return Recipe(name, build, epochs=30, learning_rate=3e-3, weight_decay=decay, batch=64)


def network(width: int, decay: float) -> str:
    return f"width {width}, decay {decay:g}"


@torch.no_grad()
def statistics(model: nn.Module, data: Images) -> dict[str, float]:
    """What is told of one network: how it does, what it returns, and how its weights lie."""
    logits = model(data.images)
    weights = [layer.weight for layer in model.modules() if isinstance(layer, nn.Linear)]
    hidden = torch.cat([w.flatten() for w in weights[1:-1]])
    return {
        **scores(model, data),
        "largest output": logits.max(1).values.mean().item(),
        "spread of outputs": logits.std(1).mean().item(),
        "deviation of weights": hidden.std().item(),
        "kurtosis of weights": (hidden / hidden.std()).pow(4).mean().item(),
        "weights near zero": (hidden.abs() < 1e-3).double().mean().item(),
    }


def run(results: Results) -> None:
    """Measure what is missing."""
    digits = load_digits()
    learnt, test = Images(*digits.train), Images(*digits.test)
    for width, decay in tqdm(list(itertools.product(WIDTHS, DECAYS)), desc="decay", unit="network"):
        name = network(width, decay)
        if results.has(STUDY, name, WAYS[-1], COUNTS[-1]):
            continue
        given = recipe(width, decay)
        models = [train(given, learnt, seed=seed) for seed in range(COUNTS[-1])]
        found = [statistics(model, test) for model in models]
        symmetry = fr.analyze(models[0], args=(test.images[:2],))
        states = [model.state_dict() for model in models]
        for count in COUNTS:
            means = {k: sum(x[k] for x in found[:count]) / count for k in found[0]}
            results.add(STUDY, name, "parents", means, seed=count)
            for way, method in zip(
                WAYS, (fr.merge_methods.mean, fr.merge_methods.many), strict=True
            ):
                merged = method(symmetry, states[:count], progress=False)
                figures = statistics(with_state(models[0], merged.state_dict), test)
                moved = sum(p.moved_units for p in merged.permutations[1:])
                figures["units moved"] = moved / (count - 1) / symmetry.movable_units
                results.add(STUDY, name, way, figures, seed=count)


def share(rows: Sequence[Row], way: str, width: int, decay: float, count: int, name: str) -> float:
    """A figure of the merged network, divided by the mean of its parents'."""
    found = {(row.network, row.method, row.seed): row.figures for row in rows}
    given = network(width, decay)
    return found[given, way, count][name] / found[given, "parents", count][name]


HEADER = (
    *("width", "decay", "accuracy", "weights, deviation", "kurtosis", "near zero"),
    *("naive, of 2", "aligned, of 2", "naive, of 6", "aligned, of 6"),
    *("loss, of 2", "outputs, spread", "units moved"),
)


def _measured(rows: Sequence[Row]) -> list[tuple[int, float]]:
    done = {row.network for row in rows if row.method == WAYS[-1] and row.seed == COUNTS[-1]}
    return [p for p in itertools.product(WIDTHS, DECAYS) if network(*p) in done]


def section(rows: Sequence[Row]) -> str:
    found = {(row.network, row.method, row.seed): row.figures for row in rows}
    cells = []
    for width, decay in _measured(rows):
        parents = found[network(width, decay), "parents", COUNTS[0]]
        pair = found[network(width, decay), "aligned", COUNTS[0]]

        def of(way: str, count: int, name: str = "accuracy") -> str:
            return f"{share(rows, way, width, decay, count, name):.2f}"  # noqa: B023

        cells.append(
            (
                *(str(width), f"{decay:g}", f"{parents['accuracy']:.1%}"),
                f"{parents['deviation of weights']:.3f}",
                f"{parents['kurtosis of weights']:.1f}",
                f"{parents['weights near zero']:.0%}",
                *(of(way, n) for n in (COUNTS[0], COUNTS[-1]) for way in WAYS),
                of("aligned", 2, "loss"),
                of("aligned", 2, "spread of outputs"),
                f"{pair['units moved']:.0%}",
            )
        )
    return (
        "## Weight decay, width and the number of models\n\n"
        "MLPs of three hidden layers on the digits of scikit-learn, trained by AdamW for 30 epochs "
        "with several decoupled decays; on 450 test images. Naive: the mean of the weights as they "
        "are; aligned: `fr.merge_methods.many`. Of 2, of 6: the accuracy of one network made of so "
        "many, divided by the mean of theirs; loss and spread of outputs (the deviation of the "
        "logits of an image) likewise, of two aligned ones. Deviation, kurtosis, near zero (below "
        "0.001): of the weights between hidden layers, of the parents. Units moved: by the "
        "alignment of two.\n\n"
        "![Accuracy and loss of merged networks, by width and decay](decay.png)\n\n"
        f"{markdown_table(HEADER, cells)}\n\n"
        f"{_observed(rows)}"
    )


def _observed(rows: Sequence[Row]) -> str:
    """Which observations hold, over the widths that are measured whole."""
    measured = _measured(rows)
    widths = [w for w in WIDTHS if all((w, d) in measured for d in DECAYS)]
    if len(widths) < 2:
        return ""
    names = {network(w, d): (w, d) for w, d in itertools.product(widths, DECAYS)}
    figures = figures_of([row for row in rows if row.network in names], names)
    cells = [
        (o.claim, f"{o.held} of {o.cases}", o.verdict)
        for o in observations(figures, widths, DECAYS, COUNTS)
    ]
    return (
        "What the results published beside the package rebasin say of its MLPs, put to these "
        "figures: in how many cases (widths, decays, numbers of models) it is so.\n\n"
        f"{markdown_table(('observation', 'cases', ''), cells)}\n"
    )


def draw(rows: Sequence[Row], folder: Path) -> None:
    measured = _measured(rows)
    widths = [w for w in WIDTHS if all((w, d) in measured for d in DECAYS)]
    shown = (
        ("accuracy", "naive", ".2f", (0.0, 1.0)),
        ("accuracy", "aligned", ".2f", (0.8, 1.0)),
        ("loss", "aligned", ".1f", (0.8, 5.0)),
        ("spread of outputs", "aligned", ".2f", (0.0, 1.0)),
    )
    maps = [
        [
            Map(
                f"{name}, {way}, width {width}",
                [[share(rows, way, width, d, n, name) for d in DECAYS] for n in COUNTS],
                [f"{d:g}" for d in DECAYS],
                [str(n) for n in COUNTS],
                form=form,
                limits=limits,
            )
            for width in widths
        ]
        for name, way, form, limits in shown
    ]
    save_figure(draw_maps(maps, x="weight decay", y="models"), folder / "decay.png")
