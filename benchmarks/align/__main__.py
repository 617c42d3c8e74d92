"""How fast and how well are two networks aligned, compared with other programs?

Every method aligns the same two networks, run by run in turn in one process, so that a busy
machine slows all alike. With ``--planted`` the second network is a permutation of the first under
strong noise, and what counts is how much of it is found again.

    python -m benchmarks.align --table benchmarks/align/align.md
    python -m benchmarks.align --planted --table benchmarks/planted/planted_noise.md
    python -m benchmarks.align --models resnet18 vit_b_16 --methods ours plain --fresh

Rows that were measured before are kept, and a second run measures what is missing. The package
rebasin, which the extra ``bench`` installs, is not needed for the other methods.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tqdm import tqdm

from benchmarks.align.methods import METHODS
from benchmarks.align.rows import Key, Row, dumps, loads
from benchmarks.align.runs import Task, measure, with_memory
from benchmarks.align.tables import document, planted_document
from benchmarks.measuring.reporting import ROOT, commit, parser_of, write_atomically

MODELS = (
    "mlp",
    "resnet18",
    "vgg11_bn",
    "resnet50",
    "densenet121",
    "mobilenet_v3_small",
    "resnext50_32x4d",
    "convnext_tiny",
    "swin_t",
    "vit_b_16",
)
PLANTED_MODELS = ("residual_mlp", "resnet18", "vgg11_bn", "vit_b_16")
PLANTED_METHODS = ("ours", "ours with budget", "plain")


def wanted_rows(options: argparse.Namespace) -> list[Row]:
    """The rows to show; nothing is measured of them yet."""
    models = options.models or (PLANTED_MODELS if options.planted else MODELS)
    methods = options.methods or (PLANTED_METHODS if options.planted else METHODS)
    noise = options.noise if options.planted else 0.0
    now = commit()
    return [Row(m, method, noise, now, options.threads) for m in models for method in methods]


def tasks(missing: list[Row], limit: int, repeats: int) -> list[Task]:
    """A task per model, whose methods run in turn."""
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    found = []
    for model in dict.fromkeys(row.model for row in missing):
        rows = [row for row in missing if row.model == model]
        together = [Row(*row.key, row.commit, row.threads, f"{model} {started}") for row in rows]
        found.append(Task(tuple(together), limit, repeats))
    return found


def run(options: argparse.Namespace) -> list[Row]:
    """Measure what is missing, keep it, and return all that is wanted."""
    wanted = wanted_rows(options)
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.touch()
    kept = map(loads, options.results.read_text().splitlines())
    done: dict[Key, Row] = {row.key: row for row in kept}
    missing = [row for row in wanted if options.fresh or row.key not in done]
    with options.results.open("a") as file:

        def keep(row: Row) -> None:
            done[row.key] = row
            print(dumps(row), file=file, flush=True)

        for task in tqdm(tasks(missing, options.limit, options.repeats), unit="model"):
            for row in measure(task):
                keep(row)
        unknown = [done[row.key] for row in wanted if done[row.key].needs_memory]
        for row in tqdm(unknown, unit="row", desc="memory"):
            keep(with_memory(row))
    return [done[row.key] for row in wanted]


def main() -> int:
    parser = parser_of("align", __doc__)
    parser.add_argument("--models", nargs="+", help="torchvision's names, mlp or residual_mlp")
    parser.add_argument("--methods", nargs="+", choices=METHODS)
    parser.add_argument("--planted", action="store_true", help="recover a permutation under noise")
    parser.add_argument("--noise", type=float, default=0.5, help="of --planted, relative")
    parser.add_argument("--repeats", type=int, default=3, help="runs of a method, each with a seed")
    parser.add_argument("--limit", type=int, default=300, help="seconds for one run")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=Path, default=ROOT / "build/benchmarks/align.jsonl")
    parser.add_argument("--fresh", action="store_true", help="measure again what is in --results")
    parser.add_argument("--table", type=Path, help="write the Markdown tables here")
    options = parser.parse_args()

    rows = run(options)
    text = planted_document(rows) if options.planted else document(rows)
    print(text)
    if options.table:
        write_atomically(options.table, text)
    return int(any(row.failure for row in rows if row.method != "rebasin"))


if __name__ == "__main__":
    sys.exit(main())
