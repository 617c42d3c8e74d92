"""What every merge method holds in memory, of two models and of more.

The models are random numbers that are read afresh at every look, as from files: what is held of
them is what a method holds. Each method runs in a process of its own.
"""

from __future__ import annotations

import itertools
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

import fxrebasin as fr
from benchmarks.measuring.processes import Lost, extra_memory, run_apart
from benchmarks.measuring.reporting import markdown_table
from benchmarks.merging.networks import mlp
from benchmarks.merging.rows import Results, Row
from fxrebasin.matching.solvers import coordinate_descent

STUDY = "memory"
WIDTH, HIDDEN = 1024, 6
SIZES = (64, *(WIDTH,) * HIDDEN, 10)
NETWORK = f"MLP, {HIDDEN} x {WIDTH}"
COUNTS = (2, 5)
MATRIX = 4 * WIDTH**2 / 2**20
"""MiB of a cost matrix in float32."""
GIBIBYTES, SECONDS = 6.0, 600.0
RETURNED = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""Has the allocator of glibc give back what is freed and larger, and not keep it for later."""
QUICK = partial(coordinate_descent, max_sweeps=1)
"""Later sweeps hold what the first one holds."""
FEW_STEPS: dict[str, Any] = {"steps": 2, "max_sweeps": 1}
METHODS: dict[str, Any] = {
    "mean": fr.merge_methods.mean,
    "to_reference": fr.merge_methods.to_reference,
    "sequential": fr.merge_methods.sequential,
    "tree": fr.merge_methods.tree,
    "many": partial(fr.merge_methods.many, max_sweeps=1),
    "cycle_consistent": partial(fr.merge_methods.cycle_consistent, **FEW_STEPS),
    "fisher_weighted": fr.merge_methods.fisher_weighted,
}


class Task(NamedTuple):
    method: str
    models: int


class Read(Mapping[str, Tensor]):
    """A state dict whose tensors are made anew whenever they are asked for."""

    def __init__(self, seed: int, shapes: Mapping[str, torch.Size]) -> None:
        self.seed, self.shapes = seed, shapes

    def __getitem__(self, name: str) -> Tensor:
        shape = self.shapes[name]
        seed = self.seed + 1000 * [*self.shapes].index(name)
        return torch.rand(shape, generator=torch.Generator().manual_seed(seed))

    def __contains__(self, name: object) -> bool:
        return name in self.shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


def held(task: Task) -> float:
    """MiB that are held at most while models are merged, beside what was held before."""
    with torch.device("meta"):
        shapes = {name: t.shape for name, t in mlp(*SIZES).state_dict().items()}
    model = mlp(*SIZES)
    symmetry = fr.analyze(model, args=(torch.zeros(2, SIZES[0]),), check=False)
    del model
    models = [Read(k, shapes) for k in range(task.models)]
    method = METHODS[task.method]
    if task.method == "fisher_weighted":
        method = partial(method, fisher=[Read(100 + k, shapes) for k in range(task.models)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # so few steps reach no optimum
        return extra_memory(lambda: method(symmetry, models, solver=QUICK, progress=False))


def run(results: Results) -> None:
    """Measure what is missing."""
    tasks = [Task(method, count) for method in METHODS for count in COUNTS]
    missing = [t for t in tasks if not results.has(STUDY, NETWORK, t.method, t.models)]
    os.environ.update(RETURNED)  # read where the processes begin
    for task in tqdm(missing, desc="memory", unit="method"):
        found = run_apart(held, task, gibibytes=GIBIBYTES, seconds=SECONDS)
        if isinstance(found, Lost):
            print(f"{task.method} of {task.models}: {found.reason}", file=sys.stderr)
        else:
            results.add(STUDY, NETWORK, task.method, {"MiB": found}, seed=task.models)


def section(rows: Sequence[Row]) -> str:
    found = {(row.method, row.seed): row.figures["MiB"] for row in rows}
    size = 4 * sum(n * m + m for n, m in itertools.pairwise(SIZES)) / 2**20
    cells = []
    for method in METHODS:
        known = [found.get((method, count)) for count in COUNTS]
        if any(known):
            mib = ("" if x is None else f"{x:.0f}" for x in known)
            times = ("" if x is None else f"{x / size:.1f}" for x in known)
            cells.append((method, *mib, *times))
    header = (
        "merged by",
        *(f"of {count} (MiB)" for count in COUNTS),
        *(f"of {count}, in models" for count in COUNTS),
    )
    return (
        "## Memory\n\n"
        f"By how much a process grows at most while MLPs of {HIDDEN} hidden layers of {WIDTH:,} "
        f"units, {size:.0f} MiB in float32 each, are merged; a cost matrix has {MATRIX:.0f} MiB. "
        "Random weights, made anew at every look as if they were read from files, and one sweep "
        "of the solver. `cycle_consistent` solves for all models at once: it holds square matrices "
        "for every block of each.\n\n"
        f"{markdown_table(header, cells)}\n"
    )


def draw(rows: Sequence[Row], folder: Path) -> None:
    """The table says it all."""
