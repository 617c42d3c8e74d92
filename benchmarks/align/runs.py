"""Run methods on a pair of networks: in turn for their time, each by itself for its memory."""

from __future__ import annotations

import math
import sys
import warnings
from dataclasses import dataclass, replace

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from benchmarks.align.checkpoints import Pair, Planted, gain, planted, random_pair
from benchmarks.align.methods import METHODS, OTHERS, Solution, as_high
from benchmarks.align.rows import Row
from benchmarks.measuring.double_precision import run_in_double_precision
from benchmarks.measuring.processes import (
    Lost,
    TimeLimitError,
    describe,
    extra_memory,
    run_apart,
    time_limit,
)
from fxrebasin.models.copying import deep_copy
from fxrebasin.models.precision import relative_error

LONG = 120
"""Seconds after which a method is not run again."""
GIBIBYTES = 16
ROUNDING = 1e-6
"""Of gains, whose terms are added up in other orders here and there."""
PREPARATION = 300
"""Seconds to build two networks and to judge what comes out."""


@dataclass(frozen=True)
class Task:
    """Methods to run in turn on one pair, in one process."""

    rows: tuple[Row, ...]
    """All of the same pair; nothing is measured of them yet."""
    limit: int
    """Seconds for each run."""
    repeats: int


def measure(task: Task) -> list[Row]:
    """Run all methods in turn, in a process of their own; whatever fails becomes a row."""
    seconds = len(task.rows) * task.repeats * (3 * task.limit + PREPARATION)
    found = run_apart(in_turn, task, gibibytes=GIBIBYTES, seconds=seconds)
    if isinstance(found, Lost):
        return [replace(row, failure=found.reason) for row in task.rows]
    return found


def with_memory(row: Row) -> Row:
    """Run one method once more, in a process of its own, to see what memory it takes."""
    seconds = 3 * max(row.solve) + PREPARATION
    memory = run_apart(memory_of, row, gibibytes=GIBIBYTES, seconds=seconds)
    if isinstance(memory, Lost):
        return replace(row, failure=f"for memory: {memory.reason}")
    return replace(row, memory=memory)


def in_turn(task: Task) -> list[Row]:
    """The rows, measured with seeds 0, 1, ...; a failure ends the turns of its method."""
    rows = list(task.rows)
    pair, hidden = _prepared(rows[0])
    for seed in range(task.repeats):
        for k, row in enumerate(rows):
            if row.failure or max(row.solve, default=0) > LONG:
                continue
            try:
                with time_limit(task.limit):
                    found = METHODS[row.method](pair, seed)
                rows[k] = _judged(row, found, pair, hidden)
                if row.method in OTHERS and hidden is None:
                    rows[k] = raced(rows[k], pair, seed, task.limit)
            except (Exception, TimeLimitError) as error:  # any failure is a result here
                rows[k] = replace(row, failure=describe(error))
            print(f"{row.key}: {rows[k].solve}, {rows[k].status}", file=sys.stderr, flush=True)
    return rows


def memory_of(row: Row) -> float:
    """MiB by which this process grows at most when it runs one method."""
    pair, _ = _prepared(row)
    return extra_memory(lambda: METHODS[row.method](pair, 0))


def _prepared(row: Row) -> tuple[Pair, Planted | None]:
    torch.set_num_threads(row.threads)
    warnings.simplefilter("ignore")  # those of other packages, about what they deprecate
    if row.noise:
        hidden = planted(row.model, row.noise)
        return hidden.pair, hidden
    return random_pair(row.model), None


@torch.no_grad()
def _judged(row: Row, found: Solution, pair: Pair, hidden: Planted | None) -> Row:
    """A row with one more run in it."""
    row = replace(
        row,
        discovery=(*row.discovery, found.discovery),
        solve=(*row.solve, found.solve),
        sweeps=(*row.sweeps, found.sweeps),
        gains=(*row.gains, gain(pair, found.state)),
        matrix_gains=(*row.matrix_gains, gain(pair, found.state, matrices=True)),
        blocks=found.blocks,
        units=found.units,
        error=_larger(row.error, change(pair, found)),
        batch_error=_larger(row.batch_error, change(pair, found, batch_statistics=True)),
    )
    if found.permutation is not None:
        row = replace(row, movable_units=found.permutation.symmetry.movable_units)
    if hidden is not None:
        undone = hidden.permutation.inverse().apply(pair.b.state_dict())
        row = replace(row, planted_gain=gain(pair, undone))
        if found.permutation is not None:
            left = found.permutation.compose(hidden.permutation).moved_units
            share = 1 - left / hidden.symmetry.movable_units
            row = replace(row, recovered=(*row.recovered, share))
    return row


def raced(row: Row, pair: Pair, seed: int, limit: int) -> Row:
    """A row with the seconds in which ours gains as much as its last run did."""
    of_all = _seconds_until(row.gains[-1], pair, seed, limit, matrices=False)
    of_matrices = _seconds_until(row.matrix_gains[-1], pair, seed, limit, matrices=True)
    return replace(
        row,
        as_high=(*row.as_high, of_all),
        as_high_by_matrices=(*row.as_high_by_matrices, of_matrices),
    )


def _seconds_until(gained: float, pair: Pair, seed: int, limit: int, *, matrices: bool) -> float:
    """Infinite where ours never gains so much, up to the rounding of sums."""
    goal = gained * (1 - ROUNDING)
    try:
        with time_limit(limit):
            found = as_high(pair, seed, goal, vector_weight=float(not matrices))
    except TimeLimitError:
        return math.inf
    return found.solve if gain(pair, found.state, matrices=matrices) >= goal else math.inf


def _larger(before: float, now: float) -> float:
    return now if before != before else max(before, now)


@torch.no_grad()
def change(pair: Pair, found: Solution, *, batch_statistics: bool = False) -> float:
    """How much an output of B changes, relative to its largest entry, in float64."""
    model = deep_copy(pair.b).double()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.train(batch_statistics)
    expected = run_in_double_precision(model, (pair.inputs,), {})
    model.load_state_dict(found.state)
    returned = run_in_double_precision(model, (pair.inputs,), {})
    return relative_error(expected, returned)
