"""One network of 2, 4 and 8: every merge method, with and without REPAIR, beside the ensemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

import fxrebasin as fr
from benchmarks.measuring.reporting import markdown_table
from benchmarks.merging import study_ani
from benchmarks.merging.ani import read_members
from benchmarks.merging.ani_objectives import mixture
from benchmarks.merging.fashion import Data, load_fashion
from benchmarks.merging.lines import with_state
from benchmarks.merging.packages import UnavailableError
from benchmarks.merging.plots import COLOURS, Curve, Panel, draw_panels
from benchmarks.merging.recipes import MLP
from benchmarks.merging.rows import Results, Row, networks_of
from benchmarks.merging.training import scores, trained
from fxrebasin.drawing.figures import save_figure
from fxrebasin.merging.merged import Merged

STUDY = "many"
COUNTS = (2, 4, 8)
METHODS: dict[str, Any] = {
    "mean": fr.merge_methods.mean,
    "to_reference": fr.merge_methods.to_reference,
    "sequential": fr.merge_methods.sequential,
    "tree": fr.merge_methods.tree,
    "many": fr.merge_methods.many,
    "cycle_consistent": fr.merge_methods.cycle_consistent,
}
ANI, ANI_BY_MIXTURE = "ANI-1x, by weights", "ANI-1x, by activations and sums"
SHARES = {"activations": 0.5, "sums": 0.5}
WATCHED = 2048
"""Training images that statistics are measured on."""


def merged_and_repaired(
    models: Sequence[nn.Module],
    merged: Merged,
    data: Sequence[Any],
    inputs: Any = None,
    *,
    sequential: bool = True,
) -> dict[str, nn.Module]:
    """What a merge method made, and the same with the statistics of the aligned parents."""
    parents = [
        with_state(model, moved.apply(model.state_dict()))
        for model, moved in zip(models, merged.permutations, strict=True)
    ]
    model = with_state(models[0], merged.state_dict)
    repaired = fr.repair(
        model, like=parents, data=data, inputs=inputs, sequential=sequential, progress=False
    )
    return {"merged": model, "REPAIR": repaired}


def run(results: Results) -> None:
    """Measure what is missing.

    Raises:
        UnavailableError: neither data nor weights can be had.
    """
    missing = []
    for study in (_classifiers, _potentials):
        try:
            study(results)
        except UnavailableError as error:
            missing.append(error)
    if len(missing) == 2:
        raise missing[0]


def _classifiers(results: Results) -> None:
    data = load_fashion()
    for count in COUNTS:
        lacking = results.lacks(STUDY, MLP.name, METHODS, count)
        if not lacking:
            continue
        models = [trained(MLP, data.train, seed=seed) for seed in range(count)]
        results.add(STUDY, MLP.name, "parents", _parents(models, data), seed=count)
        symmetry = fr.analyze(models[0], args=(data.train.images[:2],))
        batches = data.train.images[:WATCHED].split(512)
        states = [model.state_dict() for model in models]
        for name in tqdm(lacking, desc=f"merge {count} MLPs", unit="method"):
            merged = METHODS[name](symmetry, states, progress=False)
            figures = {}
            for treatment, model in merged_and_repaired(models, merged, batches).items():
                for figure, value in scores(model, data.test).items():
                    figures[f"{treatment}, {figure}"] = value
            results.add(STUDY, MLP.name, name, figures, seed=count)


def _parents(models: Sequence[nn.Module], data: Data) -> dict[str, float]:
    """The mean of their figures, and those of the ensemble: the mean of their probabilities."""
    found = [scores(model, data.test) for model in models]
    means = {k: sum(x[k] for x in found) / len(found) for k in found[0]}

    def ensemble(images: Tensor) -> Tensor:
        return torch.stack([model(images).softmax(1) for model in models]).mean(0).log()

    together = scores(ensemble, data.test)
    return {**means, **{f"ensemble, {k}": value for k, value in together.items()}}


def _potentials(results: Results) -> None:
    members = read_members()
    goal = study_ani.goal(members)
    symmetry = study_ani.symmetry_of_potentials()
    seen = study_ani.split().train
    objectives: dict[str, Any] = {
        ANI: fr.objectives.weights,
        ANI_BY_MIXTURE: partial(mixture, seen=seen, shares=SHARES),
    }

    def error(model: nn.Module) -> float:
        return goal.errors(study_ani.candidate(model))[1]

    for network, objective in objectives.items():
        for count in COUNTS:
            models = members[:count]
            lacking = results.lacks(STUDY, network, METHODS, count)
            if not lacking:
                continue
            found = [study_ani.candidate(model) for model in models]
            energy = torch.stack([c.test.sum(0) for c in found]).mean(0)
            figures = {
                "error": sum(goal.errors(c)[1] for c in found) / count,
                "ensemble, error": (energy - goal.test).abs().mean().item(),
            }
            results.add(STUDY, network, "parents", figures, seed=count)
            states = [model.state_dict() for model in models]
            for name in tqdm(lacking, desc=f"merge {count} of ANI-1x", unit="method"):
                merged = METHODS[name](symmetry, states, objective=objective, progress=False)
                made = merged_and_repaired(models, merged, [seen.vectors], lambda x: x)
                figures = {f"{t}, error": error(model) for t, model in made.items()}
                results.add(STUDY, network, name, figures, seed=count)


def _figure(network: str) -> str:
    """What tells how good a network is."""
    return "error" if network.startswith("ANI") else "accuracy"


def _cells(rows: Sequence[Row], network: str) -> list[tuple[str, ...]]:
    found = {(row.method, row.seed): row.figures for row in rows if row.network == network}
    cells = []

    def add(title: str, method: str, name: str) -> None:
        shown = [_shown(found.get((method, count), {}), name) for count in COUNTS]
        cells.append((network, title, *shown))

    add("parents", "parents", "")
    add("ensemble", "parents", "ensemble, ")
    for method in METHODS:
        add(method, method, "merged, ")
        add(f"{method}, REPAIR", method, "REPAIR, ")
    return cells


def _shown(figures: Mapping[str, float], name: str) -> str:
    """An error, or an accuracy with its loss; "" where nothing is known."""
    if f"{name}error" in figures:
        return f"{figures[f'{name}error']:.2f}"
    if f"{name}accuracy" in figures:
        return f"{figures[f'{name}accuracy']:.1%} ({figures[f'{name}loss']:.3f})"
    return ""


def section(rows: Sequence[Row]) -> str:
    header = ("networks", "merged by", *(f"of {count}" for count in COUNTS))
    cells = [row for network in networks_of(rows) for row in _cells(rows, network)]
    return (
        "## Many models\n\n"
        "One network made of 2, 4 and 8 by the functions of `fr.merge_methods`, with and without "
        "`fr.repair`, layer after layer. MLPs on Fashion-MNIST: accuracy and loss on its test "
        f"images, statistics measured on {WATCHED:,} training images. Members of ANI-1x: errors in "
        "kcal/mol against the mean of all eight on held-out molecules, as above; compared are "
        "weights, or activations and what units take, in equal shares. Ensemble: the mean of what "
        "the parents return, and so as slow as all of them.\n\n"
        "![Accuracy and error by the number of models; the naive mean is beyond](many.png)\n\n"
        f"{markdown_table(header, cells)}\n"
    )


def draw(rows: Sequence[Row], folder: Path) -> None:
    panels = []
    for network in networks_of(rows):
        figure = _figure(network)
        found = {(row.method, row.seed): row.figures for row in rows if row.network == network}
        counts = [count for count in COUNTS if ("parents", count) in found]
        curves = [
            _curve(found, "ensemble", "parents", f"ensemble, {figure}", COLOURS[7], counts),
            _curve(found, "parents", "parents", figure, COLOURS[0], counts),
        ]
        for method, colour in zip(METHODS, (COLOURS[k] for k in (1, 2, 3, 5, 4, 6)), strict=True):
            if all((method, count) in found for count in counts):
                curves.append(
                    _curve(found, f"{method}, REPAIR", method, f"REPAIR, {figure}", colour, counts)
                )
        titles = {"error": "error (kcal/mol)", "accuracy": "accuracy"}
        limits = {"error": (0.0, 40.0), "accuracy": (0.8, 0.9)}
        panels.append(
            Panel(
                f"{network}: {titles[figure]}",
                curves,
                x="models",
                percent=figure == "accuracy",
                ticks=counts,
                limits=limits[figure],
            )
        )
    save_figure(draw_panels([panels], height=5.0), folder / "many.png")


def _curve(
    found: dict[tuple[str, int], Any],
    label: str,
    method: str,
    figure: str,
    colour: str,
    counts: Sequence[int],
) -> Curve:
    values = [found[method, count][figure] for count in counts]
    return Curve(label, counts, [values], colour, dashed=method == "parents")
