"""What are the solver's choices worth on trained networks: vectors' votes, orders, activations?

Pairs of networks are trained on the digits of scikit-learn from different seeds, and aligned in
several ways. What counts is the loss half way between A and the aligned B, BatchNorm's statistics
measured afresh, beside the objective that weight matching rises.

    python -m benchmarks.choices --table benchmarks/choices/choices.md
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

import fxrebasin as fr
from benchmarks.align.checkpoints import Pair, objective
from benchmarks.measuring.reporting import (
    commit,
    markdown_table,
    parser_of,
    provenance,
    write_atomically,
)
from fxrebasin.cli.demo import RECIPES, Digits, Recipe, load_digits, train_network
from fxrebasin.matching.solvers import coordinate_descent

HEADER = (
    *("network", "choice", "by matrices", "by vectors", "barrier", "worst"),
    *("accuracy half way", "solve (s)"),
)


class Residual(nn.Module):
    """Two convolutions around which the input goes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.branch(x))


def build_resnet() -> nn.Module:
    """A ResNet of three blocks of 64 channels."""
    stem = (nn.Conv2d(1, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU())
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    return nn.Sequential(*stem, *(Residual(64) for _ in range(3)), *head)


NETWORKS = (*RECIPES, Recipe("ResNet with BatchNorm", build_resnet, 3e-3, 1e-2))
ALTERNATING = partial(coordinate_descent, order=fr.schedules.alternating_order)
CHOICES: dict[str, dict[str, Any]] = {
    "as trained": {},
    "default": {},
    "vector_weight=0": {"vector_weight": 0.0},
    "vector_weight=0.01": {"vector_weight": 0.01},
    "vector_weight=0.1": {"vector_weight": 0.1},
    "vector_weight=10": {"vector_weight": 10.0},
    "order=graph_order": {"solver": partial(coordinate_descent, order=fr.schedules.graph_order)},
    "order=alternating_order": {"solver": ALTERNATING},
    "budget of 20 rounds": {"solver": partial(coordinate_descent, budget=fr.Budget(rounds=20))},
    "activations": {},
    "start=activations": {},
}
WATCHED = 512
"""Training images whose activations are matched."""


@dataclass
class Figures:
    """Of one choice on one network, a list entry per pair."""

    matrices: list[float] = field(default_factory=list)
    vectors: list[float] = field(default_factory=list)
    barriers: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def cells(self) -> Iterator[str]:
        yield f"{statistics.median(self.matrices):,.1f}"
        yield f"{statistics.median(self.vectors):,.1f}"
        yield f"{statistics.median(self.barriers):.3f}"
        yield f"{max(self.barriers):.3f}"
        yield f"{statistics.median(self.accuracies):.1%}"
        yield f"{statistics.median(self.seconds):.2f}"


def measure(found: Figures, choice: str, pair: Pair, digits: Digits, seed: int) -> None:
    images, labels = digits.test

    @torch.no_grad()
    def evaluate(model: nn.Module) -> dict[str, float]:
        logits = model(images)
        accuracy = (logits.argmax(1) == labels).double().mean()
        return {"loss": F.cross_entropy(logits, labels).item(), "accuracy": accuracy.item()}

    moved, seconds = pair.b, 0.0
    if choice != "as trained":
        symmetry = fr.analyze(pair.b, args=(pair.inputs,))
        states = {"state_dict": pair.b.state_dict(), "to": pair.a.state_dict()}
        options: dict[str, Any] = {**states, **CHOICES[choice], "seed": seed, "progress": False}
        if choice.endswith("activations"):
            watched = (digits.train[0][:WATCHED],)
            alignment = fr.activation_matching(
                pair.b, to=pair.a, args=watched, symmetry=symmetry, progress=False
            )
            seconds, options["start"] = alignment.seconds, alignment.permutation
        if choice != "activations":
            alignment = fr.weight_matching(symmetry, **options)
            seconds += alignment.seconds
        moved = alignment.permutation.apply_to(pair.b)
    loader = digits.train[0].split(256)
    path = fr.interpolate(pair.a, moved, evaluate, loader=loader, progress=False)
    whole, matrices = (objective(pair, moved.state_dict(), matrices=only) for only in (False, True))
    found.matrices.append(matrices)
    found.vectors.append(whole - matrices)
    found.barriers.append(path.barrier)
    found.accuracies.append(path.midpoint["accuracy"])
    found.seconds.append(seconds)


def page(rows: list[tuple[str, ...]], options: argparse.Namespace) -> str:
    return (
        "# Choices of the solver\n\n"
        f"{provenance([commit()], [options.threads])}\n"
        f"Medians over {options.pairs} pairs of networks, trained for {options.epochs} epochs from "
        "different seeds. By matrices, by vectors: the inner product of A's parameters with those "
        "of the aligned B, of tensors with several axes and of others such as biases and norms. "
        "Barrier: by how much the test loss on the straight line between them exceeds the line "
        "between the losses of its ends, at most; worst: of all pairs. Activations: units are "
        f"matched by how they react to {WATCHED} training images, and weight matching may start "
        "there. BatchNorm's statistics are measured afresh at every point. "
        "`python -m benchmarks.choices` measures this table.\n\n"
        f"{markdown_table(HEADER, rows)}\n"
    )


def main() -> int:
    parser = parser_of("choices", __doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--table", type=Path, help="write the Markdown table here")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    digits = load_digits()
    rows: list[tuple[str, ...]] = []
    for recipe in NETWORKS:
        figures = {choice: Figures() for choice in CHOICES}
        for seed in tqdm(range(options.pairs), desc=recipe.name, unit="pair"):
            a, b = (
                train_network(
                    recipe, digits.train, seed=s, epochs=options.epochs, on_epoch=lambda: None
                )
                for s in (2 * seed, 2 * seed + 1)
            )
            for choice, found in figures.items():
                measure(found, choice, Pair(a, b, digits.test[0][:8]), digits, seed)
        rows += [(recipe.name, choice, *found.cells()) for choice, found in figures.items()]
        if options.table:
            write_atomically(options.table, page(rows, options))
    print(markdown_table(HEADER, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
