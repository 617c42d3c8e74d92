"""Checkpoints of ProteinMPNN, trained from different seeds: merged by what, how many, repaired?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from torch import nn
from tqdm import tqdm

import fxrebasin as fr
from benchmarks.measuring.reporting import markdown_table
from benchmarks.merging.plots import draw_dots
from benchmarks.merging.protein_mpnn import Score, read_checkpoints, score
from benchmarks.merging.proteins import Protein, read_proteins
from benchmarks.merging.rows import Results, Row
from benchmarks.merging.study_many import merged_and_repaired
from fxrebasin.drawing.figures import save_figure
from fxrebasin.objectives import Objective

STUDY = "proteins"
TRAIN, TEST = ("1tii", "il2"), ("1hpv", "2hhb", "1fx2")
"""Structures that activations and statistics are of, and those that are measured on."""
COUNTS = (2, 4)
COMPARED = {
    "weights": ["weights"],
    "activations": ["activations"],
    "both": ["weights", "activations"],
}
"""What is compared, in equal shares."""
METHODS: dict[str, Any] = {
    "to_reference": fr.merge_methods.to_reference,
    "sequential": fr.merge_methods.sequential,
    "many": fr.merge_methods.many,
    "cycle_consistent": fr.merge_methods.cycle_consistent,
}


def tuple_of(protein: Protein) -> tuple[Any, ...]:
    """What the network is called on."""
    return tuple(protein)


@cache
def structures() -> tuple[list[Protein], list[Protein]]:
    """Those of ``TRAIN`` and of ``TEST``."""
    return read_proteins(TRAIN), read_proteins(TEST)


def run(results: Results) -> None:
    """Measure what is missing.

    Raises:
        UnavailableError: checkpoints or structures cannot be had.
    """
    models: list[nn.Module] = [*read_checkpoints()]
    train, test = structures()
    symmetry = fr.analyze(models[0], args=tuple(train[0]))
    objectives: dict[str, Objective] = {
        "weights": fr.objectives.weights,
        "activations": partial(
            fr.objectives.activations_of, model=models[0], args=tuple(train[-1])
        ),
    }
    for count in COUNTS:
        given = models[:count]
        if not results.has(STUDY, "ProteinMPNN", "ensemble", count):
            parents = [score([model], test) for model in given]
            mean = Score(*(sum(x) / count for x in zip(*parents, strict=True)))
            _add(results, "parents", count, {"merged": mean})
            _add(results, "ensemble", count, {"merged": score(given, test)})
        ways = {"mean": fr.merge_methods.mean}
        for compares, kinds in COMPARED.items():
            objective = partial(fr.objectives.mixture, of=[objectives[kind] for kind in kinds])
            for name, method in METHODS.items():
                ways[f"{name}, {compares}"] = partial(method, objective=objective)
        states = [model.state_dict() for model in given]
        missing = results.lacks(STUDY, "ProteinMPNN", ways, count)
        for name in tqdm(missing, desc=f"merge {count} of ProteinMPNN", unit="method"):
            merged = ways[name](symmetry, states, progress=False)
            made = merged_and_repaired(given, merged, train, tuple_of, sequential=False)
            _add(results, name, count, {t: score([m], test) for t, m in made.items()})


def _add(results: Results, method: str, count: int, found: Mapping[str, Score]) -> None:
    figures = {}
    for treatment, (recovery, loss) in found.items():
        figures[f"{treatment}, recovery"] = recovery
        figures[f"{treatment}, loss"] = loss
    results.add(STUDY, "ProteinMPNN", method, figures, seed=count)


def section(rows: Sequence[Row]) -> str:
    header = (
        "merged by",
        *(
            f"{title} of {n}"
            for n in COUNTS
            for title in ("recovery", "REPAIR,", "loss", "REPAIR, loss")
        ),
    )
    figures = ("merged, recovery", "REPAIR, recovery", "merged, loss", "REPAIR, loss")
    found = {(row.method, row.seed): row.figures for row in rows}
    cells = []
    for method in dict.fromkeys(row.method for row in rows):
        shown = [
            (found.get((method, n), {}).get(f), ".1%" if "recovery" in f else ".2f")
            for n in COUNTS
            for f in figures
        ]
        cells.append((method, *("" if x is None else format(x, form) for x, form in shown)))
    return (
        "## ProteinMPNN\n\n"
        "Checkpoints of a graph network of layers of messages around one stream of 128 features "
        "with LayerNorm, trained with more and more noise. Recovery: the share of residues that "
        "are the likeliest ones where they are, given the structure and the residues decoded "
        f"earlier; loss in nats; on chains of {', '.join(TEST)}. What activations and statistics "
        f"are of: {', '.join(TRAIN)}.\n\n"
        "![Recovery by method](proteins.png)\n\n"
        f"{markdown_table(header, cells)}\n"
    )


def draw(rows: Sequence[Row], folder: Path) -> None:
    groups: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        shown = groups.setdefault(f"{row.seed} checkpoints", {})
        shown[row.method] = {
            treatment: row.figures[f"{treatment}, recovery"]
            for treatment in ("merged", "REPAIR")
            if f"{treatment}, recovery" in row.figures
        }
    save_figure(draw_dots(groups, x="recovery"), folder / "proteins.png")
