"""What is it worth to cut out units of zeros, and to put units in order before quantising?

A third of the units of models are set to zero at random and cut out: parameters, and latency under
inductor before and after, in turns. And trained weights are rounded in groups along their input
axis, as units are and in order.

    python -m benchmarks.compact --table benchmarks/compact/compact.md
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from tqdm import tqdm

from benchmarks.compact.quantisation import KEYS, Loss, losses
from benchmarks.compact.real_weights import networks
from benchmarks.compact.speedup import MODELS, Row, measure
from benchmarks.measuring.reporting import (
    commit,
    markdown_table,
    parser_of,
    provenance,
    write_atomically,
)

CUT = (
    *("model", "parameters", "left", "forward (ms)", "left (ms)", "speedup"),
    *("cut in (s)", "error"),
)
ORDERED = ("weights", "bits", "as they are", *(f"by {name}" for name in KEYS))


def cut_cells(row: Row) -> tuple[str, ...]:
    before, after = row.parameters
    slow, fast = row.seconds
    return (
        *(row.name, f"{before:,}", f"{after:,} ({after / before:.0%})"),
        *(f"{1e3 * slow:.1f}", f"{1e3 * fast:.1f}", f"{slow / fast:.2f}"),
        *(f"{row.cutting:.1f}", f"{row.error:.1e}"),
    )


def ordered_cells(row: Loss) -> tuple[str, ...]:
    errors = [row.plain, *(row.ordered[name] for name in KEYS)]
    return (row.network, str(row.bits), *(f"{error:.2e}" for error in errors))


def page(cut: list[Row], ordered: list[Loss], options: argparse.Namespace) -> str:
    return (
        "# Compact and ordered\n\n"
        f"{provenance([commit()], [options.threads])}\n"
        "`python -m benchmarks.compact` measures these tables.\n\n"
        "## A third of the units set to zero, and cut out\n\n"
        "Units are chosen at random in every block, as many under every parent: channels, hidden "
        "units, heads and features inside of heads; of transformers not the features of the "
        "stream, which norms take a mean over. All weights are random. Forward: a batch of one "
        f"under `torch.compile`, medians of {options.runs} runs in turn, after two. Error: of the "
        "outputs, relative, as verified (exported graphs in float32, others in float64).\n\n"
        f"{markdown_table(CUT, [cut_cells(row) for row in cut])}\n\n"
        "## Weights rounded in groups of 32 along the input axis\n\n"
        "Relative error of the outputs, of weights as they are and with units in order. "
        "Each group has a scale of its own, its largest entry; linear layers whose inputs make "
        "whole groups are rounded by torchao. Digits: networks trained on the "
        f"digits of scikit-learn for {options.epochs} epochs, means of three, on its test images. "
        "ANI-1x: the networks of each element inside of the package torchani, means of the eight "
        "members, on random inputs. Order is no gain by itself: rows that are alike share a scale, "
        "but so do the largest ones, on which outputs depend most.\n\n"
        f"{markdown_table(ORDERED, [ordered_cells(row) for row in ordered])}\n"
    )


def main() -> int:
    parser = parser_of("compact", __doc__)
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--cache", type=Path, default=Path(tempfile.gettempdir()) / "fxrebasin-benchmarks"
    )
    parser.add_argument("--table", type=Path, help="write the Markdown tables here")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    ordered = [
        row
        for network in tqdm(networks(options.cache, epochs=options.epochs), unit="network")
        for row in losses(network)
    ]
    print(markdown_table(ORDERED, [ordered_cells(row) for row in ordered]))
    cut: list[Row] = []
    for name in tqdm(options.models, unit="model"):
        cut.append(measure(name, options.runs))
        if options.table:
            write_atomically(options.table, page(cut, ordered, options))
    print(markdown_table(CUT, [cut_cells(row) for row in cut]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
