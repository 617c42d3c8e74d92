"""How long does an analysis take, compared with one forward pass of the model?

The budget is three forward passes and two seconds. Of the analysis, the self-test may take as long
as finding the group and three forward passes. Analyses and forward passes take turns, so that
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

MODELS = ("alexnet", "resnet50", "densenet121", "shufflenet_v2_x1_0", "swin_t", "vit_b_16")
HEADER = (
    *("model", "size", "analysis (s)", "of which self-test (s)", "forward (s)"),
    *("ratio", "budget (s)", "met", "self-test within its own"),
)


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@torch.no_grad()
def measure(name: str, runs: int) -> tuple[float, float, float]:
    """The median seconds of an analysis, of one without its self-test, and of a forward pass."""
    model, image = build_classifier(name)
    tasks = (
        lambda: fr.analyze(model, args=(image,)),
        lambda: fr.analyze(model, args=(image,), check=False),
        lambda: model(image),
    )
    rows = [tuple(seconds(task) for task in tasks) for _ in range(runs + 1)]
    analysis, finding, forward = map(statistics.median, zip(*rows[1:], strict=True))
    return analysis, finding, forward


def cells(name: str, analysis: float, finding: float, forward: float) -> tuple[str, ...]:
    budget, test = 3 * forward + 2, max(analysis - finding, 0.0)
    figures = (f"{analysis:.2f}", f"{test:.2f}", f"{forward:.3f}", f"{analysis / forward:.1f}")
    met = ("yes" if analysis <= budget else "no", "yes" if test <= finding + 3 * forward else "no")
    return (name, str(native_size(name)), *figures, f"{budget:.2f}", *met)


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
            f"forward passes and two seconds; that of the self-test, what finding the group takes "
            f"and three forward passes. `python -m benchmarks.speed` measures this table."
        )
        write_atomically(options.table, f"# Speed\n\n{notes}\n{legend}\n\n{table}\n")
    return int(any("no" in row[-2:] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
