"""How much longer does a call take through the backend than through its inner backend alone?

A model is compiled twice, by the inner backend and by ours around it, and the two are called in
turn, so that a busy machine slows both alike; figures are medians. Less than one percent is aimed
at: permuted weights are gathered only where the live ones changed. ``gathering`` is a call after
all weights were written to, as after a step of an optimizer.

    python -m benchmarks.overhead --table benchmarks/overhead/overhead.md
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from tqdm import tqdm

import fxrebasin as fr
from benchmarks.measuring.models import build_classifier
from benchmarks.measuring.reporting import (
    commit,
    markdown_table,
    parser_of,
    provenance,
    write_atomically,
)

MODELS = ("resnet18", "vit_b_16")
INNER = ("inductor", "eager")
HEADER = ("model", "inner", "gradients", "alone (ms)", "through (ms)", "added", "gathering (ms)")
GOAL = 0.01


class Row(NamedTuple):
    """Median seconds of a call."""

    alone: float
    through: float
    gathering: float

    @property
    def added(self) -> float:
        return self.through / self.alone - 1


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def write_all(model: nn.Module) -> None:
    """Count a write to every parameter, as a step of an optimizer does."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.0)


def measure(name: str, inner: str, gradients: bool, runs: int) -> Row:
    model, image = build_classifier(name)
    reference, _ = build_classifier(name)
    torch._dynamo.reset()
    alone = torch.compile(model, backend=inner)
    through = torch.compile(model, backend=fr.backend(to=reference, inner=inner))
    with torch.set_grad_enabled(gradients):
        for compiled in (alone, through) * 3:  # compiles, and settles
            compiled(image)
        rows = []
        for k in range(runs):
            turns = [alone, through] if k % 2 else [through, alone]
            took = {id(c): seconds(lambda c=c: c(image)) for c in turns}  # type: ignore[misc]
            rows.append((took[id(alone)], took[id(through)]))
        gathering = []
        for _ in range(min(5, runs)):
            write_all(model)
            gathering.append(seconds(lambda: through(image)))
    a, t = map(statistics.median, zip(*rows, strict=True))
    return Row(a, t, statistics.median(gathering))


def cells(name: str, inner: str, gradients: bool, row: Row) -> tuple[str, ...]:
    times = (f"{s * 1e3:.1f}" for s in (row.alone, row.through))
    added = f"{row.added:+.1%}" + ("" if row.added < GOAL else " (missed)")
    return (name, inner, "yes" if gradients else "no", *times, added, f"{row.gathering * 1e3:.1f}")


def main() -> None:
    parser = parser_of("benchmarks.overhead", __doc__)
    parser.add_argument("models", nargs="*", default=MODELS, help=f"default: {' '.join(MODELS)}")
    parser.add_argument("--runs", type=int, default=60, help="calls of each")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", type=Path, help="write the Markdown table here")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    kinds = [(m, i, g) for m in args.models for i in INNER for g in (False, True)]
    rows = []
    for name, inner, gradients in tqdm(kinds, file=sys.stderr, disable=None):
        rows.append(cells(name, inner, gradients, measure(name, inner, gradients, args.runs)))
    table = markdown_table(HEADER, rows)
    print(table)
    if args.table:
        intro = (
            "A batch of one image; calls in turn, medians of "
            f"{args.runs}. Less than {GOAL:.0%} is aimed at."
        )
        note = "`python -m benchmarks.overhead` measures this table."
        header = f"# What the backend adds to a call\n\n{provenance([commit()], [args.threads])}"
        write_atomically(args.table, f"{header}\n{note} {intro}\n\n{table}\n")


if __name__ == "__main__":
    main()
