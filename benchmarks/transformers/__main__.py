"""How well do transformers of different seeds merge, permuted, rotated, and learned?

Networks are trained here, once: they stay in a cache, ``~/.cache/fxrebasin`` or what
``FXREBASIN_CACHE`` names. Rows that were measured before are kept, and a second run measures what
is missing. A setting whose data cannot be downloaded is left out, and says so.

    python -m benchmarks.transformers --table benchmarks/transformers/transformers.md
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.measuring.reporting import ROOT, commit, parser_of
from benchmarks.merging.lines import line
from benchmarks.merging.packages import UnavailableError
from benchmarks.merging.rows import Results
from benchmarks.transformers.methods import REPAIRED, Pair, methods_for, repairing
from benchmarks.transformers.page import STUDY, write
from benchmarks.transformers.training import PAIRS, PERCEPTRONS, TRANSFORMERS, Setting

POINTS = 5
"""Of a line, ends included."""


def measure(setting: Setting, results: Results) -> None:
    """Measure what is missing.

    Raises:
        UnavailableError: the data cannot be had.
    """
    test = setting.load().test.first(setting.tested)
    for k, (one, other) in enumerate(PAIRS):
        methods = methods_for(setting, k)
        if not (missing := results.lacks(STUDY, setting.name, methods, k)):
            continue
        pair = Pair(setting, setting.network(one), setting.network(other), seed=k)
        for method in tqdm(missing, desc=f"{setting.name}, pair {k}", unit="method", leave=False):
            a, b = methods[method](pair)
            repair = repairing(pair, (a, b)) if method.endswith(REPAIRED) else None
            found = line(a, b.state_dict(), test, at_point=repair, steps=POINTS)
            results.add(STUDY, setting.name, method, found.figures, seed=k, curves=found.curves)
            print(f"{setting.name}, pair {k}, {method}: barrier {found.figures['barrier']:.3f}")


def main() -> int:
    parser = parser_of("transformers", __doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--results", type=Path, default=ROOT / "build/benchmarks/transformers.jsonl"
    )
    parser.add_argument("--fresh", action="store_true", help="measure again what is in --results")
    parser.add_argument("--table", type=Path, help="write Markdown here, and the picture beside it")
    options: argparse.Namespace = parser.parse_args()

    torch.set_num_threads(options.threads)
    results = Results(options.results, commit=commit(), fresh=options.fresh)
    for setting in (*TRANSFORMERS, *PERCEPTRONS):
        try:
            measure(setting, results)
        except UnavailableError as error:
            print(f"{setting.name!r} is left out: {error}", file=sys.stderr)
        if options.table:
            write(results, options.table, options.threads)
    return 0


if __name__ == "__main__":
    sys.exit(main())
