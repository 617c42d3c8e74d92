"""Which torchvision classifiers are understood, how completely, and how fast?

Every model is given random weights, analysed, and permuted at random in all of its blocks; the
permuted copy must compute what the model computes. As a control of the test's own power, the copy
is also run with one moved tensor left in its old place, for a few tensors drawn at random: that
must be visible in the output. Each model runs in a process of its own; rows that passed are kept,
and a second run continues where the first one stopped.

    python -m benchmarks.coverage --models resnet18 vit_b_16
    python -m benchmarks.coverage --fresh --table benchmarks/coverage.md
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path

import torch
from tqdm import tqdm

import fxrebasin as fr
from benchmarks.isolation import peak_memory, run_apart
from benchmarks.models import build_classifier, classifier_names, native_size, randomise
from benchmarks.reporting import ROOT, commit, markdown_table, provenance, write_atomically

TOLERANCE = 1e-5  # relative, of the permuted model's output
VISIBLE = 1e-3  # relative, what leaving out one tensor must at least change
CONTROLS = 3
HEADER = (
    *("model", "size", "blocks", "movable units", "log order", "coverage", "error", "control"),
    *("analysis (s)", "forward (s)", "unknown ops", "status"),
)
LEGEND = (
    "Error: the largest change of an output relative to the largest output, in float32, when all "
    "blocks are permuted at random. Control: the same if one moved tensor is left in its old place "
    f"(the smallest of {CONTROLS}). `python -m benchmarks.coverage` measures this table."
)


@dataclass(frozen=True)
class Row:
    """What was measured of one model; ``nan`` where it was not reached."""

    model: str
    size: int
    commit: str
    threads: int
    blocks: int = 0
    movable_units: int = 0
    log_order: float = float("nan")
    coverage: float = float("nan")
    error: float = float("nan")
    control: float = float("nan")
    """The smallest relative change of the output when one tensor is left in its old place."""
    analysis: float = float("nan")
    forward: float = float("nan")
    unknown_ops: dict[str, int] = field(default_factory=dict)
    failure: str = ""
    memory: float = float("nan")
    """Peak of the process, in GiB."""

    @property
    def status(self) -> str:
        if self.failure:
            return self.failure
        if not self.error <= TOLERANCE:  # also if it is nan
            return "output changed"
        if self.unknown_ops:
            return "unknown ops"
        return "ok" if self.control > VISIBLE else "control too weak"

    @property
    def in_budget(self) -> bool:
        return self.analysis <= 3 * self.forward + 2

    def cells(self) -> tuple[str, ...]:
        unknown = ", ".join(f"{op} x {n}" for op, n in self.unknown_ops.items())
        return (
            *(self.model, str(self.size), f"{self.blocks:,}", f"{self.movable_units:,}"),
            *(f"{self.log_order:,.1f}", f"{self.coverage:.1%}"),
            *(f"{self.error:.1e}", f"{self.control:.1e}"),
            *(f"{self.analysis:.2f}", f"{self.forward:.2f}", unknown or "none", self.status),
        )


@torch.no_grad()
def measure(row: Row) -> Row:
    """Measure one model; runs in a process of its own."""
    torch.set_num_threads(row.threads)
    model, image = build_classifier(row.model)
    randomise(model, image)
    model(image)  # the warm-up
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        expected = model(image)
        seconds.append(time.perf_counter() - start)
    start = time.perf_counter()
    symmetry = fr.analyze(model, args=(image,))
    analysis = time.perf_counter() - start

    def change() -> float:
        return float((moved(image) - expected).abs().max() / expected.abs().max())

    moved = symmetry.sample(torch.Generator().manual_seed(0)).apply_to(model)
    error = change()
    places = moved.state_dict()
    was = {n: t for n, t in model.state_dict().items() if not torch.equal(t, places[n])}
    controls = []
    for name in random.Random(0).sample(sorted(was), min(CONTROLS, len(was))):
        kept = places[name].clone()
        places[name].copy_(was[name])
        controls.append(change())
        places[name].copy_(kept)
    return replace(
        row,
        blocks=symmetry.block_count,
        movable_units=symmetry.movable_units,
        log_order=symmetry.log_order,
        coverage=symmetry.coverage,
        error=error,
        control=min(controls, default=0.0),
        analysis=analysis,
        forward=statistics.median(seconds),
        unknown_ops=dict(symmetry.unknown_ops),
        memory=peak_memory(),
    )


def measure_apart(row: Row, gibibytes: float, seconds: int) -> Row:
    """Measure one model in a fresh process; whatever goes wrong there becomes the row's status."""
    try:
        return run_apart(measure, row, gibibytes=gibibytes, seconds=seconds)
    except Exception as error:  # any failure is a result here
        reason = (str(error).strip().splitlines() or [""])[0][:120]
        return replace(row, failure=f"{type(error).__name__}: {reason}")


def summary(rows: list[Row]) -> str:
    """One line: how many pass, the largest error, and who is slow."""
    passed = [row for row in rows if row.status == "ok"]
    worst = max((row.error for row in passed), default=float("nan"))
    least = min((row.coverage for row in passed), default=float("nan"))
    slow = [row.model for row in rows if not row.in_budget]
    return (
        f"{len(passed)} of {len(rows)} models pass; largest error {worst:.1e}, smallest coverage "
        f"{least:.1%}; analysis takes at most 3 forward passes + 2 s for {len(rows) - len(slow)} "
        f"of {len(rows)}{': not for ' + ', '.join(slow) if slow else ''}."
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["*"], help="names or patterns (vit_*)")
    parser.add_argument("--results", type=Path, default=ROOT / "build/benchmarks/coverage.jsonl")
    parser.add_argument("--fresh", action="store_true", help="measure again what is in --results")
    parser.add_argument("--table", type=Path, help="write the Markdown table here")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", type=float, default=12, help="GiB per model")
    parser.add_argument("--timeout", type=int, default=1800, help="seconds per model")
    options = parser.parse_args()

    names = [n for n in classifier_names() if any(fnmatch(n, p) for p in options.models)]
    if not names:
        parser.error(f"no torchvision classifier is called {' or '.join(options.models)}")
    done: dict[str, Row] = {}
    if options.results.exists() and not options.fresh:
        lines = options.results.read_text().splitlines()
        kept = [Row(**json.loads(line)) for line in lines]
        done = {row.model: row for row in kept if row.status == "ok"}
    options.results.parent.mkdir(parents=True, exist_ok=True)
    now = commit()
    with options.results.open("w" if options.fresh else "a") as file:
        for name in (progress := tqdm(names, unit="model")):
            if name not in done:
                progress.set_description(name)
                row = Row(name, native_size(name), now, options.threads)
                done[name] = measure_apart(row, gibibytes=options.memory, seconds=options.timeout)
                print(json.dumps(asdict(done[name])), file=file, flush=True)
    rows = [done[name] for name in names]
    table = markdown_table(HEADER, [row.cells() for row in rows])
    print(table, summary(rows), sep="\n\n")
    if options.table:
        notes = provenance((row.commit for row in rows), (row.threads for row in rows))
        parts = ("# torchvision classifiers", summary(rows), f"{notes}\n{LEGEND}", table)
        write_atomically(options.table, "\n\n".join(parts) + "\n")
    return int(any(row.status != "ok" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
