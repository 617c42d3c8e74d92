"""Measure one network in a process of its own."""

from __future__ import annotations

import functools
import time
import warnings
from dataclasses import replace

import torch

import fxrebasin as fr
from benchmarks.align.checkpoints import Pair
from benchmarks.measuring.processes import Lost, extra_memory, run_apart
from benchmarks.scaling.families import random_pair
from benchmarks.scaling.rows import Row
from benchmarks.scaling.steps import ASSIGNMENT, EVALUATION, PRODUCTS, demand, steps_timed
from fxrebasin.errors import ConvergenceWarning

SWEEPS = 2
"""At most, so that runs of all sizes do about the same."""
SOLVER = functools.partial(fr.solvers.coordinate_descent, max_sweeps=SWEEPS)
MOST_RUNS = 5
LONG = 5.0
"""Seconds after which nothing is run again."""
GIBIBYTES = 16
LIMIT = 600
SMALL = 64


def measure(row: Row) -> Row | Lost[Row]:
    """A row with all figures."""
    return run_apart(measured, row, gibibytes=GIBIBYTES, seconds=LIMIT)


def measured(row: Row) -> Row:
    """The same in this process."""
    torch.set_num_threads(row.threads)
    warnings.simplefilter("ignore", ConvergenceWarning)
    small = random_pair(row.family, SMALL, 1)  # loads and starts all that is loaded lazily
    _run(row, small, _discovered(small)[0])
    pair = random_pair(row.family, row.width, row.depth)
    symmetry, discovery = _discovered(pair)
    state = pair.b.state_dict()
    flops, matrix_bytes = demand(symmetry, state)
    row = replace(
        row,
        parameters=sum(tensor.numel() for tensor in state.values()),
        blocks=symmetry.block_count,
        discovery=discovery,
        pass_flops=flops,
        matrix_bytes=matrix_bytes,
    )
    runs: list[Row] = []
    memory = extra_memory(lambda: runs.append(_run(row, pair, symmetry)))
    while len(runs) < MOST_RUNS and sum(run.total for run in runs) < LONG:
        runs.append(_run(row, pair, symmetry))
    fastest = min(runs, key=lambda run: run.total)
    return replace(fastest, runs=len(runs), memory=memory * 2**20)


def _discovered(pair: Pair) -> tuple[fr.Symmetry, float]:
    begin = time.perf_counter()
    symmetry = fr.analyze(pair.b, args=(pair.inputs,), check=False)
    return symmetry, time.perf_counter() - begin


def _run(row: Row, pair: Pair, symmetry: fr.Symmetry) -> Row:
    a, b = pair.a.state_dict(), pair.b.state_dict()
    with steps_timed() as steps:
        begin = time.perf_counter()
        found = fr.weight_matching(symmetry, b, to=a, solver=SOLVER, progress=False)
        total = time.perf_counter() - begin
    return replace(
        row,
        sweeps=found.sweeps,
        products=steps.seconds[PRODUCTS],
        assignment=steps.seconds[ASSIGNMENT],
        evaluation=steps.seconds[EVALUATION],
        rest=total - sum(steps.seconds.values()),
        flops=steps.flops,
        solved=steps.solved,
    )
