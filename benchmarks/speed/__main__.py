"""How long does an analysis take, compared with one forward pass of the model?

The budget is three forward passes and two seconds. Analyses and forward passes take turns, so that
a busy machine slows both alike; every figure is a median, after one unmeasured run of each.

    python -m benchmarks.speed --table benchmarks/speed/speed.md
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from tqdm import tqdm

import fxrebasin as fr
from benchmarks.measuring.models import build_classifier, native_size
from benchmarks.measuring.reporting import (
    commit,
    markdown_table,
    parser_of,
    provenance,
    write_atomically,
)

MODELS = ("resnet50", "densenet121", "shufflenet_v2_x1_0", "swin_t", "vit_b_16")
HEADER = ("model", "size", "analysis (s)", "forward (s)", "ratio", "budget (s)", "met")


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@torch.no_grad()
def measure(name: str, runs: int) -> tuple[float, float]:
    """The median seconds of an analysis and of a forward pass."""
    model, image = build_classifier(name)
    tasks = (lambda: fr.analyze(model, args=(image,)), lambda: model(image))
    pairs = [tuple(seconds(task) for task in tasks) for _ in range(runs + 1)]
    analysis, forward = (statistics.median(column) for column in zip(*pairs[1:], strict=True))
    return analysis, forward


def cells(name: str, analysis: float, forward: float) -> tuple[str, ...]:
    budget = 3 * forward + 2
    ratio = analysis / forward
    figures = (f"{analysis:.2f}", f"{forward:.3f}", f"{ratio:.1f}", f"{budget:.2f}")
    return (name, str(native_size(name)), *figures, "yes" if analysis <= budget else "no")


def main() -> int:
    parser = parser_of("speed", __doc__)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--table", type=Path, help="write the Markdown table here")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    progress = tqdm(options.models, unit="model")
    rows = [cells(name, *measure(name, options.runs)) for name in progress]
    table = markdown_table(HEADER, rows)
    print(table)
    if options.table:
        notes = provenance([commit()], [options.threads])
        legend = (
            f"Medians of {options.runs} runs in turn, batches of one image. The budget is three "
            f"forward passes and two seconds. `python -m benchmarks.speed` measures this table."
        )
        write_atomically(options.table, f"# Speed\n\n{notes}\n{legend}\n\n{table}\n")
    return int(any(row[-1] != "yes" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
