"""How much longer does a call take through the backend than through its inner backend alone?

What is added is measured around an inner backend that computes nothing, and so leaves nothing else
to measure: a model is compiled by it alone and by ours around it, and the two are called in turn.
It is compared with a call of what inductor, or no compiler, has made of the model. All figures are
medians. Less than one percent is aimed at: permuted weights are gathered only where the live ones
changed. ``gathering`` is a call after all weights were written to, as after a step of an optimizer.

    python -m benchmarks.overhead --table benchmarks/overhead/overhead.md
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
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
HEADER = ("model", "inner", "gradients", "call (ms)", "added (ms)", "added", "gathering (ms)")
GOAL = 0.01


class Row(NamedTuple):
    """Median seconds."""

    call: float
    """Of the inner backend alone."""
    added: float
    gathering: float

    @property
    def share(self) -> float:
        return self.added / self.call


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def write_all(model: nn.Module) -> None:
    """Count a write to every parameter, as a step of an optimizer does."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.0)


def compute_nothing(graph: fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
    """An inner backend: its outputs are always the same."""
    with torch.no_grad():
        outputs = graph(*inputs)
    return lambda *given: outputs


def added(model: nn.Module, reference: nn.Module, image: Tensor, runs: int) -> float:
    """The seconds that a call takes longer through ours, where nothing is computed."""
    torch._dynamo.reset()
    alone = torch.compile(model, backend=compute_nothing)
    through = torch.compile(model, backend=fr.backend(to=reference, inner=compute_nothing))
    for compiled in (alone, through) * 3:
        compiled(image)
    took = [[seconds(lambda c=c: c(image)) for c in (alone, through)] for _ in range(20 * runs)]  # type: ignore[misc]
    first, second = map(statistics.median, zip(*took, strict=True))
    return second - first


def measure(name: str, inner: str, gradients: bool, runs: int) -> Row:
    model, image = build_classifier(name)
    reference, _ = build_classifier(name)
    with torch.set_grad_enabled(gradients):
        more = added(model, reference, image, runs)
        torch._dynamo.reset()
        alone = torch.compile(model, backend=inner)
        through = torch.compile(model, backend=fr.backend(to=reference, inner=inner))
        for compiled in (alone, through) * 2:  # compiles, and settles
            compiled(image)
        calls = [seconds(lambda: alone(image)) for _ in range(runs)]
        gathering = []
        for _ in range(min(5, runs)):
            write_all(model)
            gathering.append(seconds(lambda: through(image)))
    return Row(statistics.median(calls), more, statistics.median(gathering))


def cells(name: str, inner: str, gradients: bool, row: Row) -> tuple[str, ...]:
    share = f"{row.share:.2%}" + ("" if row.share < GOAL else " (missed)")
    times = (f"{row.call * 1e3:.1f}", f"{row.added * 1e3:.2f}", share)
    return (name, inner, "yes" if gradients else "no", *times, f"{row.gathering * 1e3:.1f}")


def main() -> None:
    parser = parser_of("benchmarks.overhead", __doc__)
    parser.add_argument("models", nargs="*", default=MODELS, help=f"default: {' '.join(MODELS)}")
    parser.add_argument(
        "--runs",
        type=int,
        default=15,
        help="calls of the model, and 20 times as many that compute nothing",
    )
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
            "A batch of one image. Call: of the inner backend alone. Added: by ours around one "
            f"that computes nothing; less than {GOAL:.0%} of a call is aimed at. Gathering: "
            "a call after all weights were written to."
        )
        note = "`python -m benchmarks.overhead` measures this table."
        header = f"# What the backend adds to a call\n\n{provenance([commit()], [args.threads])}"
        write_atomically(args.table, f"{header}\n{note} {intro}\n\n{table}\n")


if __name__ == "__main__":
    main()
