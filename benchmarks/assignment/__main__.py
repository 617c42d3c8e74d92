"""How fast are linear assignment problems solved, compared with scipy and lapx?

Solvers take turns on the same matrices, in random order, so that a busy machine slows all alike;
every time is a median, per matrix. Small problems, such as those of attention heads, are also
solved many in one call. ``unchanged`` solves the same problems again from their own solutions, as
happens for most layers in the last sweeps of weight matching. ``gap`` is the certified distance
from the optimum, relative to the value. Kinds of matrices are listed in
:mod:`benchmarks.assignment.kinds`; ``mlp0`` and ``mlpL`` are the gains of the middle layer of two
networks trained on digits, in the first and in the last of six sweeps.

    python -m benchmarks.assignment --table benchmarks/assignment/assignment.md
"""

from __future__ import annotations

import argparse
import math
import random
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

from benchmarks.assignment.kinds import KINDS, matrix
from benchmarks.assignment.mlp import layer_gains
from benchmarks.measuring.reporting import (
    commit,
    markdown_table,
    parser_of,
    provenance,
    write_atomically,
)
from fxrebasin.assignment import assign

Matrix = NDArray[np.float32]

TRAINED = ("mlp0", "mlpL")
BATCH, BATCHED_UP_TO = 64, 128
"""How many small matrices are solved in one call, and what is small."""
SIZES = (64, 128, 256, 512, 1024, 2048, 4096, 8192)
ALONE: dict[int, tuple[str, ...]] = {
    4096: ("rank1", "dup"),
    8192: ("spec", "rank8", "rank1", "dup"),
}
"""Where other solvers take minutes, so that they are left out."""
NOT_TRAINED_FROM = 4096
"""Sizes of which no layer is trained here."""
LONGEST = {"quiet": 2048}
"""Up to where a kind is measured, that takes every solver minutes beyond."""
HEADER = (
    "kind",
    "n",
    "at once",
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
    """Median seconds per matrix."""

    ours: float
    unchanged: float
    gap: float
    scipy: float = math.nan
    lapx: float = math.nan


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def medians(tasks: Sequence[Callable[[], object]], runs: int, budget: float) -> list[float]:
    """Median seconds of tasks that take turns, until there are enough runs or time is up.

    The order is another one in each round: what ran last leaves the caches full of its own.
    """
    shuffle = random.Random(0).sample
    measured: list[list[float]] = [[] for _ in tasks]
    spent = 0.0
    while len(measured[0]) < runs and spent < budget:
        for k in shuffle(range(len(tasks)), len(tasks)):
            measured[k].append(seconds(tasks[k]))
            spent += measured[k][-1]
    return [statistics.median(times) for times in measured]


def measure(batch: Matrix, runs: int, budget: float, *, alone: bool) -> Times:
    """Solvers on a batch ``(B, n, n)``."""
    solved = assign(batch, certify=True)  # also the run that nobody measures
    assert solved.gap is not None
    tasks: list[Callable[[], object]] = [
        lambda: assign(batch),
        lambda: assign(batch, warm=solved),
    ]
    if not alone:
        tasks.append(lambda: [linear_sum_assignment(costs, maximize=True) for costs in batch])
        tasks.append(lambda: [lap.lapjvr(-costs, return_cost=False) for costs in batch])
    ours, unchanged, *others = (time / len(batch) for time in medians(tasks, runs, budget))
    size = float(solved.value.abs().max()) or 1.0
    return Times(ours, unchanged, float(solved.gap.max()) / size, *others)


def bounds(n: int, runs: int) -> tuple[str, ...]:
    """What no solver can beat: one read of the matrix; and the product that makes it."""
    factor = torch.from_numpy(matrix("gauss", n))
    ones = torch.ones(n)
    figures = medians((lambda: factor @ ones, lambda: factor @ factor.T), runs + 1, 10.0)
    return (f"{n:,}", *(f"{1e9 * figure / n**2:.2f}" for figure in figures))


def cells(kind: str, n: int, batch: int, t: Times) -> tuple[str, ...]:
    compared = (f"{1e3 * t.scipy:.2f}", f"{t.scipy / t.lapx:.2f}")
    ratios = (f"{t.scipy / t.ours:.2f}", f"{t.scipy / t.unchanged:.1f}")
    return (
        *(kind, f"{n:,}", str(batch)),
        *(("", "") if math.isnan(t.scipy) else compared),
        f"{1e3 * t.ours:.2f}",
        *(("", "") if math.isnan(t.scipy) else ratios),
        f"{t.gap:.0e}",
        f"{1e9 * t.ours / n**2:.1f}",
    )


def page(tables: str, options: argparse.Namespace) -> str:
    notes = provenance([commit()], [options.threads])
    legend = (
        f"Medians per matrix of up to {options.runs} runs in random order, fewer where "
        f"{options.budget:g} seconds have passed, on float32 matrices. `lapx` (its `lapjvr`), "
        "`ratio` (ours), `unchanged` are how many times faster than "
        "`scipy.optimize.linear_sum_assignment(costs, maximize=True)`; no figures where that and "
        "lapx would take minutes. The second table says how long it takes to read such a matrix "
        "once, and to compute it as a product of two n x n matrices. "
        "`python -m benchmarks.assignment` measures these tables."
    )
    return f"# Assignment\n\n{notes}\n{legend}\n\n{tables}\n"


def main() -> int:
    parser = parser_of("assignment", __doc__)
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
        trainable = TRAINED if n < NOT_TRAINED_FROM else ()
        for kind in options.kinds or (*KINDS, *trainable):
            if n > LONGEST.get(kind, n):
                continue
            progress.set_postfix_str(f"{kind} {n}")
            if kind in TRAINED and not trained:
                trained = dict(zip(TRAINED, layer_gains(n), strict=True))
            batches = [trained[kind][None] if kind in TRAINED else matrix(kind, n)[None]]
            if n <= BATCHED_UP_TO and kind not in TRAINED:
                batches.append(np.stack([matrix(kind, n, seed) for seed in range(BATCH)]))
            alone = kind in ALONE.get(n, ())
            for batch in batches:
                times = measure(batch, options.runs, options.budget, alone=alone)
                rows.append(cells(kind, n, len(batch), times))
        limits.append(bounds(n, options.runs))
        tables = f"{markdown_table(HEADER, rows)}\n\n{markdown_table(BOUNDS_HEADER, limits)}"
        if options.table:
            write_atomically(options.table, page(tables, options))  # large sizes take long
    print(tables)
    return 0


if __name__ == "__main__":
    sys.exit(main())
