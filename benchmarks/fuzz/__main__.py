"""Is the group that is found for a random network always one of its symmetries?

Networks of ordinary layers, networks of odd ones (mirrors, outer products, slices, writes in
place), and networks whose forward is a program (parts of parameters by the size of the input,
buffers, branches, answers in objects), with skip connections around them, are drawn at random, seed
by seed. Each is analysed, all its weights are drawn afresh, and random members of the group are
applied in float64: no output may change, for inputs of other sizes neither. As a control of the
test's own power, single tensors are left in their old places: that must be visible. What fails is
shrunk, and printed as one line that rebuilds it.

    python -m benchmarks.fuzz --count 10000 --table benchmarks/fuzz/fuzz.md
    python -m benchmarks.fuzz --recipe "(('vector', 5, 12), ('flip',), ('each',))"

Rows that were measured before are kept, and a second run continues where the first one stopped.
"""

from __future__ import annotations

import argparse
import ast
import json
import statistics
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.fuzz.networks import PROFILES
from benchmarks.fuzz.rows import Row, lost, measure, read
from benchmarks.fuzz.soundness import SAMPLES, TOLERANCE, VISIBLE, judge
from benchmarks.measuring.processes import Lost, work_off
from benchmarks.measuring.reporting import (
    ROOT,
    commit,
    markdown_table,
    parser_of,
    provenance,
    write_atomically,
)

HEADER = (
    *("networks", "seeds", "with symmetry", "unknown ops", "test pinned", "wrong without test"),
    *("wrong", "crashed", "not judged", "control visible", "median s"),
)
LEGEND = (
    f"Wrong: {SAMPLES} random members of the group that `analyze` returns changed an output by "
    f"more than {TOLERANCE:g} of its largest entry, in float64, for the example's inputs, or for a "
    "longer one or another batch where the network takes it. Wrong without test: the same for "
    "`analyze(..., check=False)`. Test pinned: networks in which the analysis' test of itself "
    "made the group smaller. Not judged: no weights were found for which rounding errors stay "
    "small. Control visible: the share of networks with symmetry in which leaving one of three "
    f"moved tensors in its place changed an output by more than {VISIBLE:g}; some tensors do not "
    "matter, such as a bias before a norm. `python -m benchmarks.fuzz` measures this table."
)


def cells(name: str, rows: list[Row]) -> tuple[str, ...]:
    verdicts = [row.verdict for row in rows if row.verdict is not None]
    judged = [v for v in verdicts if v.judged]
    symmetric = [v for v in judged if v.log_order > 0]
    visible = sum(v.control > VISIBLE for v in symmetric)
    seeds = [row.seed for row in rows]
    return (
        *(f"{len(rows):,} {name}", f"{min(seeds)} to {max(seeds)}"),
        _share(sum(v.log_order > 0 for v in verdicts), len(verdicts)),
        _share(sum(bool(v.unknown_ops) for v in verdicts), len(verdicts)),
        f"{sum(v.pinned for v in verdicts):,}",
        f"{sum(not v.raw_sound for v in judged):,}",
        f"{sum(not v.sound for v in judged):,}",
        f"{len(rows) - len(verdicts):,}",
        f"{len(verdicts) - len(judged):,}",
        _share(visible, len(symmetric)),
        f"{statistics.median(v.seconds for v in verdicts):.2f}" if verdicts else "nan",
    )


def _share(some: int, total: int) -> str:
    return f"{some / total:.1%}" if total else "nan"


def report(rows: list[Row]) -> str:
    """The table, and all failures with what rebuilds them."""
    groups = {p: [row for row in rows if row.profile == p] for p in PROFILES}
    table = markdown_table(HEADER, [cells(p, found) for p, found in groups.items() if found])
    parts = [table]
    ops: Counter[str] = Counter()
    for row in rows:
        ops.update(dict.fromkeys(row.verdict.unknown_ops if row.verdict else (), 1))
    if ops:
        counted = ", ".join(f"`{op}` ({n:,})" for op, n in ops.most_common())
        parts.append(f"Networks with ops that are not understood: {counted}.")
    failed = [row for row in rows if row.failures]
    if failed:
        listed = [
            (row.profile, str(row.seed), " and ".join(row.failures), f"`{row.shrunk}`")
            for row in sorted(failed, key=lambda row: (row.failures[0], row.key))
        ]
        header = (
            "profile",
            "seed",
            "failure",
            "the simplest network found to fail like it",
        )
        parts += ["## Failures", markdown_table(header, listed)]
    return "\n\n".join(parts)


def wanted_rows(options: argparse.Namespace) -> list[Row]:
    """The networks to measure; of all profiles, one after the other in turn."""
    now = commit()
    profiles = PROFILES if options.profile == "all" else (options.profile,)
    seeds = range(options.seed, options.seed + options.count)
    return [Row(profiles[seed % len(profiles)], seed, now) for seed in seeds]


def show(row: Row) -> None:
    """Say at once what failed, and how to repeat it."""
    for failure in row.failures:
        tqdm.write(f"{row.profile} seed {row.seed}: {failure}\n  {row.recipe}\n  {row.shrunk}")
    sys.stdout.flush()


def run(options: argparse.Namespace) -> int:
    wanted = wanted_rows(options)
    done: dict[tuple[str, int], Row] = {}
    if options.results.exists() and not options.fresh:
        lines = options.results.read_text().splitlines()
        done = {row.key: row for row in map(read, lines)}
    options.results.parent.mkdir(parents=True, exist_ok=True)
    missing = [row for row in wanted if row.key not in done]
    finished = work_off(measure, missing, seconds=options.timeout, jobs=options.jobs)
    with options.results.open("w" if options.fresh else "a") as file:
        for result in tqdm(finished, total=len(missing), unit="network", mininterval=10):
            row = lost(result) if isinstance(result, Lost) else result
            done[row.key] = row
            print(json.dumps(asdict(row)), file=file, flush=True)
            show(row)
    rows = [done[row.key] for row in wanted]
    text = report(rows)
    print(text)
    if options.table:
        notes = provenance((row.commit for row in rows), [1])
        parts = ("# Random networks", f"{notes}\n{LEGEND}", text)
        write_atomically(options.table, "\n\n".join(parts) + "\n")
    return int(any(row.failures not in ([], ["wrong without test"]) for row in rows))


def repeat(text: str) -> int:
    """Judge one recipe, and say what came out."""
    recipe: Any = ast.literal_eval(text)
    verdict = judge(recipe)
    print(*(f"{name}: {value}" for name, value in asdict(verdict).items()), sep="\n")
    return int(verdict.judged and not verdict.sound)


def main() -> int:
    parser = parser_of("fuzz", __doc__)
    parser.add_argument("--count", type=int, default=1000, help="networks")
    parser.add_argument("--seed", type=int, default=0, help="of the first network")
    parser.add_argument("--profile", choices=(*PROFILES, "all"), default="all")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--timeout", type=int, default=300, help="seconds per network")
    parser.add_argument("--results", type=Path, default=ROOT / "build/benchmarks/fuzz.jsonl")
    parser.add_argument("--fresh", action="store_true", help="measure again what is in --results")
    parser.add_argument("--table", type=Path, help="write the Markdown table here")
    parser.add_argument("--recipe", help="judge this network only")
    options = parser.parse_args()
    return repeat(options.recipe) if options.recipe else run(options)


if __name__ == "__main__":
    sys.exit(main())
