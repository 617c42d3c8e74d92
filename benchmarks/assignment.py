"""How fast are linear assignment problems solved, compared with scipy and lapx?

Solvers take turns on the same matrix, so that a busy machine slows all alike; every time is a
median. ``unchanged`` solves the same problem again from its own solution, as happens for most
layers in the last sweeps of weight matching. ``gap`` is the certified distance from the optimum,
relative to the value. Kinds of matrices are listed in :mod:`benchmarks.assignment_kinds`; ``mlp0``
and ``mlpL`` are the gains of the middle layer of two networks trained on digits, in the first and
in the last of six sweeps.

    python -m benchmarks.assignment --table benchmarks/assignment.md
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import lap
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from tqdm import tqdm

from benchmarks.assignment_kinds import KINDS, matrix
from benchmarks.assignment_mlp import layer_gains
from benchmarks.reporting import commit, markdown_table, provenance, write_atomically
from fxrebasin.assignment import assign

Matrix = NDArray[np.float32]

TRAINED = ("mlp0", "mlpL")
SIZES = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
LARGE_KINDS: dict[int, tuple[str, ...]] = {
    2048: ("gauss", "copy0.3", "copy1", "copy3", "lowr", "spec", "rank8", "dead", *TRAINED),
    4096: ("gauss", "copy3", "lowr", "spec"),
    8192: ("gauss",),
}
"""What is measured by default where scipy takes long."""
HEADER = (
    "kind",
    "n",
    "scipy (ms)",
    "lapx",
    "fxrebasin (ms)",
    "ratio",
    "unchanged",
    "gap",
    "ns per entry",
)
BOUNDS_HEADER = ("n", "read (ns per entry)", "product (ns per entry)")


@dataclass(frozen=True)
class Times:
    """Median seconds on one matrix."""

    scipy: float
    lapx: float
    ours: float
    unchanged: float
    gap: float


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def medians(tasks: Sequence[Callable[[], object]], runs: int, budget: float) -> list[float]:
    """Median seconds of tasks that take turns, until there are enough runs or time is up."""
    rounds: list[list[float]] = []
    spent = 0.0
    while len(rounds) < runs and spent < budget:
        rounds.append([seconds(task) for task in tasks])
        spent += sum(rounds[-1])
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def measure(costs: Matrix, runs: int, budget: float) -> Times:
    batch = costs[None]
    solved = assign(batch, certify=True)  # also the run that nobody measures
    assert solved.gap is not None
    scipy, lapx, ours, unchanged = medians(
        (
            lambda: linear_sum_assignment(costs, maximize=True),
            lambda: lap.lapjvr(-costs, return_cost=False),
            lambda: assign(batch),
            lambda: assign(batch, warm=solved),
        ),
        runs,
        budget,
    )
    size = abs(solved.value.item()) or 1.0
    return Times(scipy, lapx, ours, unchanged, gap=solved.gap.item() / size)


def bounds(n: int, runs: int) -> tuple[str, ...]:
    """What no solver can beat: one read of the matrix; and the product that makes it."""
    factor = torch.from_numpy(matrix("gauss", n))
    ones = torch.ones(n)
    figures = medians((lambda: factor @ ones, lambda: factor @ factor.T), runs + 1, 10.0)
    return (f"{n:,}", *(f"{1e9 * figure / n**2:.2f}" for figure in figures))


def cells(kind: str, n: int, t: Times) -> tuple[str, ...]:
    return (
        kind,
        f"{n:,}",
        f"{1e3 * t.scipy:.2f}",
        f"{t.scipy / t.lapx:.2f}",
        f"{1e3 * t.ours:.2f}",
        f"{t.scipy / t.ours:.2f}",
        f"{t.scipy / t.unchanged:.1f}",
        f"{t.gap:.0e}",
        f"{1e9 * t.ours / n**2:.1f}",
    )


def page(tables: str, options: argparse.Namespace) -> str:
    notes = provenance([commit()], [options.threads])
    legend = (
        f"Medians of up to {options.runs} runs in turn, fewer where {options.budget:g} seconds "
        "have passed, on float32 matrices. `lapx` (its `lapjvr`), `ratio` (ours), `unchanged` "
        "are how many times faster than `scipy.optimize.linear_sum_assignment(costs, "
        "maximize=True)`. The second table says how long it takes to read such a matrix once, and "
        "to compute it as a product of two n x n matrices. `python -m benchmarks.assignment` "
        "measures these tables."
    )
    return f"# Assignment\n\n{notes}\n{legend}\n\n{tables}\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="+", choices=(*KINDS, *TRAINED))
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--budget", type=float, default=2.0, help="seconds per matrix")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--table", type=Path, help="write the Markdown tables here")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    rows, limits = [], []
    progress = tqdm(options.sizes, unit="size")
    for n in progress:
        trained: dict[str, Matrix] = {}
        for kind in options.kinds or LARGE_KINDS.get(n, (*KINDS, *TRAINED)):
            progress.set_postfix_str(f"{kind} {n}")
            if kind in TRAINED and not trained:
                trained = dict(zip(TRAINED, layer_gains(n), strict=True))
            costs = trained[kind] if kind in TRAINED else matrix(kind, n)
            rows.append(cells(kind, n, measure(costs, options.runs, options.budget)))
        limits.append(bounds(n, options.runs))
        tables = f"{markdown_table(HEADER, rows)}\n\n{markdown_table(BOUNDS_HEADER, limits)}"
        if options.table:
            write_atomically(options.table, page(tables, options))  # large sizes take long
    print(tables)
    return 0


if __name__ == "__main__":
    sys.exit(main())
